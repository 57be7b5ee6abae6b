"""Residual networks of the usual shapes."""
