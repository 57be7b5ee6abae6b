"""`archduel mcp`: searches, reports and predictions as tools of a program that speaks the Model Context Protocol."""
