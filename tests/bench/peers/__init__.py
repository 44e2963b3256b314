"""The other schedulers, set up as well as they can be on one machine; each is a context manager."""
