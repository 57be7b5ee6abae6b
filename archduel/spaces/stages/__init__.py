"""Whole networks of three stages, decided part by part."""
