"""Sweeps as the core sees them: records, ranges, chunk sizes."""
