"""Checkpoints: what a program saves to go on from is copied while it runs, and is there for the next attempt."""
