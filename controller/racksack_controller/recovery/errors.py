"""What stands in the way of a backup, a restore or a repair."""

from __future__ import annotations


class RecoveryError(Exception):
    """It was not done; the sentence says what is in the way and what to do."""


class RefusedError(RecoveryError):
    """It was not done because of the state of things; nothing was changed."""
