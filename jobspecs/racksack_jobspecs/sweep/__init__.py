"""Sweeps: one function or program over many points. The shared vocabulary: what a sweep is and what its points are."""
