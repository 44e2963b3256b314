"""The faults that the agent tells its callers about; the message of each is a sentence for a person."""


class PrepareError(Exception):
    """An attempt could not be made ready to run."""

    at_fault = "job"


class NodeAtFaultError(PrepareError):
    """It could not be made ready for want of something that this node lacks; another node may have it."""

    at_fault = "node"


class RefusedError(Exception):
    """A request that cannot be met. `kind` is for programs: bad_request, no_snapshot, no_attempt, running,
    disk_full, ...
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
