"""All that can be asked of the edge. An action with the same key is never under way twice."""

from __future__ import annotations

import msgspec

from racksack_controller.core.state import Stop


class Action(msgspec.Struct, frozen=True):
    """Something to do on or about one node."""

    node: str

    @property
    def key(self) -> str:
        """What must not be under way twice."""
        return f"{type(self).__name__}:{self.node}"


class AttemptAction(Action, frozen=True):
    """Something to do on a node about one attempt."""

    attempt: str

    @property
    def key(self) -> str:
        """What must not be under way twice."""
        return f"{type(self).__name__}:{self.attempt}@{self.node}"


class Start(AttemptAction, frozen=True):
    """Stage the project and launch the attempt. Ends in Launched or StartFailed."""


class Collect(AttemptAction, frozen=True):
    """Pull the return folder. Ends in Collected or CollectFailed."""


class BringCheckpoint(AttemptAction, frozen=True):
    """Pull the newest checkpoint of an attempt. Ends in CheckpointBrought or CheckpointFailed."""


class Go(AttemptAction, frozen=True):
    """Let a prepared rank start its program, now that all others are prepared too. Ends in GoSent or GoFailed."""


class Assemble(AttemptAction, frozen=True):
    """Put the folders of a gang's ranks in place as one. Ends in Assembled or AssembleFailed. No node is asked."""


class Remove(AttemptAction, frozen=True):
    """Remove what is left of an attempt. Ends in Removed or RemoveFailed."""


class StopAttempt(AttemptAction, frozen=True):
    """Tell the node to end an attempt. Ends in StopSent; the end itself comes as a report."""

    stop: Stop


class SwitchOn(Action, frozen=True):
    """Go up the ladder of ways to switch a node on. Each step is a PowerStepped; ends in PowerSwitched.

    `way` was asked before (by a controller that ended meanwhile) and has `remaining_s` left to bring the node up; ""
    begins with the first way, and `remaining_s` is what each way gets.
    """

    way: str
    remaining_s: float


class SwitchOff(Action, frozen=True):
    """Go up the ladder of ways to switch a node off; as SwitchOn. `grace_s` is what each soft way gets.

    `way` was asked before and has `grace_s` left.
    """

    way: str
    grace_s: float
