"""Computes what users' texts ask for in processes of its own, with limits on time and memory, users in turn."""
