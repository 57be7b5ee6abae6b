"""Readers of published benchmark files; none executes what it reads."""
