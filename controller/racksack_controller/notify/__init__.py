"""Tells people that a sweep has ended: by webhook, mail or a command. Nothing waits for it."""
