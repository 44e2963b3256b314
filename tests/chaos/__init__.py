"""Real faults: power cuts that lose what was not on the disk."""
