"""racksack.yaml to checked values."""
