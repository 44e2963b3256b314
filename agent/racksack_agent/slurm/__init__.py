"""What an attempt that is a batch job of Slurm leaves in its folder, and what Slurm's states mean for it."""
