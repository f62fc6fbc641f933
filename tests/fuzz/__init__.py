"""Fuzz targets: plain loops with a seed and a time budget. `python -m tests.fuzz --seconds 3600` for the long form."""
