"""Work that is saved: real programs that count, killed at random moments."""
