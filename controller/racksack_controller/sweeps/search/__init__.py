"""Which points a sweep tries: grids, samplers and searches."""
