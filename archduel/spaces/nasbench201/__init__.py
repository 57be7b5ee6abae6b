"""NAS-Bench-201."""
