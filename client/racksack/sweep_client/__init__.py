"""Sweeps from the laptop: what `racksack sweep` and `racksack.sweep()` do."""
