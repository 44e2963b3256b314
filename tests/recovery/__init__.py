"""Tests of backups, restores, checks and repairs."""
