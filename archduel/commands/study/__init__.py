"""Any task: a space, a function that says how good something is, and a study of what was tried."""
