"""What can go wrong between the controller and a node.

The message of each is one sentence for a person: what was done, to what, what came back, and how to fix it.
"""

from __future__ import annotations


class NodeError(Exception):
    """A node could not do what it was asked."""


class NodeUnreachable(NodeError):  # noqa: N818 - the field's word, as in the contract
    """There is no connection, or it broke: connect again later."""


class HostKeyChanged(NodeError):  # noqa: N818
    """The host shows another key than the stored one: a person must look before anything is sent to it."""


class NodeUnusable(NodeError):  # noqa: N818
    """The node answers but lacks something (Python, rsync, a login, space): a person must fix it."""


class TransferFailed(NodeError):  # noqa: N818
    """Files did not arrive; what came so far is kept, so the same transfer resumes. `kind` says why.

    disk_full: no space where the files go. stalled: no progress for too long. unreachable: the connection broke.
    missing: the source is not there. failed: anything else.
    """

    def __init__(self, sentence: str, kind: str = "failed") -> None:
        super().__init__(sentence)
        self.kind = kind


class AgentError(NodeError):
    """The agent understood a request and refused it; `kind` is the agent's word for the reason."""

    def __init__(self, sentence: str, kind: str = "") -> None:
        super().__init__(sentence)
        self.kind = kind
