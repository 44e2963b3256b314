"""How to switch a server: one small driver a file, the ladder that tries them in turn, and their settings."""
