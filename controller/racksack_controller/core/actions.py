"""All that can be asked of the edge. An action with the same key is never under way twice."""

from __future__ import annotations

import msgspec

from racksack_controller.core.state import Stop


class Action(msgspec.Struct, frozen=True):
    """Something to do on a node about one attempt."""

    node: str
    attempt: str

    @property
    def key(self) -> str:
        """What must not be under way twice."""
        return f"{type(self).__name__}:{self.attempt}@{self.node}"


class Start(Action, frozen=True):
    """Stage the project and launch the attempt. Ends in Launched or StartFailed."""


class Collect(Action, frozen=True):
    """Pull the return folder. Ends in Collected or CollectFailed."""


class Remove(Action, frozen=True):
    """Remove what is left of an attempt. Ends in Removed or RemoveFailed."""


class StopAttempt(Action, frozen=True):
    """Tell the node to end an attempt. Ends in StopSent; the end itself comes as a report."""

    stop: Stop
