"""`archduel proxy ...`: cheap training recipes that keep the ranking."""
