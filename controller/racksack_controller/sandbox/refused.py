"""How an operation of a sandbox process refuses."""


class RefusedError(Exception):
    """It has no answer, for the reason that the sentence says."""
