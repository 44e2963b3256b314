"""Data sets: from a folder on a laptop to what all jobs on a node share."""
