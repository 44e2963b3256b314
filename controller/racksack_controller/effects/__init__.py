"""Carries out the actions that the core asks for: on nodes, on attempts, on power."""
