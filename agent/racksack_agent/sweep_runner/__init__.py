"""Runs the points of a sweep on a node: a runner, and workers in the job's own Python. Standard library only."""
