"""Tests of nodes of the kind `slurm`, against a real slurmctld."""
