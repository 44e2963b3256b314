"""racksack.yaml: everything that reads it."""
