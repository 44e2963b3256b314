"""Attempts as jobs of a Slurm cluster: `serve` runs on its login node, supervisors run as batch jobs."""
