"""What is known about the power of a node: frozen records. `State` owns them, `apply` replaces them.

A node without a `power` block has no record here and is always on.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

FILE_SYSTEM_CHECK_S = 300.0  # a boot may take so long now and then, however short all others were
BOOT_GUESS_S = 120.0  # of a node whose boot was never measured
OFF_GUESS_S = 30.0


class Phase(StrEnum):
    """Where a node is between off and on. The legal changes stand in `lifecycle.POWER`."""

    UNKNOWN = "unknown"  # nobody has said yet; treated as off once it was called in vain
    OFF = "off"
    BOOTING = "booting"  # a decision was made to switch it on; `decide` asks for SwitchOn
    ON = "on"  # its agent has answered
    STOPPING = "stopping"  # a decision was made to switch it off; `decide` asks for SwitchOff
    SET_ASIDE = "set_aside"  # switching it failed; left alone until `retry_at_s`


class OperatorRequest(StrEnum):
    """What an operator asked for that is still to be done."""

    NONE = ""
    ON = "on"
    OFF = "off"
    CYCLE = "cycle"

    @property
    def goes_off(self) -> bool:
        """Whether the node is to be switched off for it."""
        return self in (OperatorRequest.OFF, OperatorRequest.CYCLE)


REQUESTS = {
    OperatorRequest.ON: "on",
    OperatorRequest.OFF: "off",
    OperatorRequest.CYCLE: "off and on again",
    OperatorRequest.NONE: "left alone",
}  # what people read


class PowerTraits(msgspec.Struct, frozen=True, kw_only=True):
    """What the configuration says about a node's power. Not saved. Times in seconds."""

    can_switch_on: bool = True
    can_switch_off: bool = True
    idle_off_s: float | None = None  # None: the break-even of this node; infinity: never
    min_on_s: float = 300.0
    boot_timeout_s: float = 600.0
    boot_timeout_is_set: bool = False  # whether the configuration says so
    off_grace_s: float = 180.0
    hard_off: bool = False
    watts_idle: float | None = None
    watts_max: float | None = None
    watts_off: float = 0.0
    boot_s: float = BOOT_GUESS_S  # until a boot was measured
    off_s: float = OFF_GUESS_S
    boot_j: float | None = None  # energy of a boot, where somebody measured it; None: boot time at full power
    off_j: float | None = None
    through: tuple[str, ...] = ()  # the nodes that it is reached through or woken from
    behind: tuple[str, ...] = ()  # the nodes that are reached through it or woken from it


class PowerHold(msgspec.Struct, frozen=True):
    """An operator's request that a node is neither switched on nor off by itself. until_s None: for good."""

    until_s: float | None
    by: str
    reason: str = ""


class Measured(msgspec.Struct, frozen=True):
    """A time that is measured again and again: how often, smoothed mean and deviation, the last. Seconds.

    Mean and deviation as in Jacobson, "Congestion avoidance and control", SIGCOMM 1988.
    """

    count: int = 0
    mean_s: float = 0.0
    deviation_s: float = 0.0
    last_s: float = 0.0

    def add(self, took_s: float) -> Measured:
        """One more measurement."""
        if not self.count:
            return Measured(1, took_s, took_s / 2.0, took_s)
        error = took_s - self.mean_s
        mean, deviation = self.mean_s + error / 8.0, self.deviation_s + (abs(error) - self.deviation_s) / 4.0
        return Measured(self.count + 1, mean, deviation, took_s)


class PowerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The power of one node. Times are Unix seconds; None: not known, or not the case."""

    node: str
    phase: Phase = Phase.UNKNOWN
    since_s: float = 0.0  # of the phase
    why: str = ""  # the reason of the phase
    seen_on: bool | None = (
        None  # what the node itself or a device last said; None also where only silence speaks for off
    )
    confirmed_on_s: float = 0.0  # when a device last said that it is on although it does not answer
    hung_at_s: float | None = None  # when it was last switched off because it hung
    way: str = ""  # the way that was asked last, while booting or stopping
    asked_at_s: float | None = None  # when that was; a restart goes on with the time that is left
    is_accepted: bool = False  # whether what was asked last is known to have been accepted
    boot_began_s: float | None = None  # of the boot under way
    on_since_s: float | None = None
    up_since_s: float | None = None  # as the node itself says, once it answers: it was on then, whatever was thought
    idle_since_s: float | None = None  # on, and nothing of any job is on it
    failures: int = 0  # boots that failed in a row
    stops_failed: int = 0  # shutdowns that failed in a row
    retry_at_s: float = 0.0  # left alone until then
    problem: str = ""  # the sentence of the last failure
    hold: PowerHold | None = None
    request: OperatorRequest = OperatorRequest.NONE
    request_by: str = ""
    logins: int = 0
    boots: Measured = Measured()
    offs: Measured = Measured()
    gap_began_s: float | None = None  # since when there is nothing to do for it, on or off
    gap_s: float | None = None  # smoothed length of such times
    watts: float | None = None
    watts_estimated: bool = True

    @property
    def takes_jobs(self) -> bool:
        """Whether jobs may be placed there as far as power goes; what was never asked may be on."""
        return self.phase in (Phase.ON, Phase.UNKNOWN) and not self.request.goes_off

    def request_without(self, fulfilled: OperatorRequest) -> OperatorRequest:
        """The operator's request, once this one has been fulfilled."""
        return OperatorRequest.NONE if self.request is fulfilled else self.request

    def held(self, now: float) -> bool:
        """Whether an operator wants it left alone."""
        return self.hold is not None and (self.hold.until_s is None or self.hold.until_s > now)


class PowerLine(msgspec.Struct, frozen=True):
    """One line of the power story of a node: what happened, by which way if by any."""

    at_s: float
    node: str
    kind: str  # on | off | step | switched | seen | hold | release | request
    way: str
    sentence: str


def boot_s(power: PowerRecord, traits: PowerTraits) -> float:
    """The expected length of a boot in seconds."""
    return power.boots.mean_s if power.boots.count else traits.boot_s


def off_s(power: PowerRecord, traits: PowerTraits) -> float:
    """The expected length of a shutdown in seconds."""
    return power.offs.mean_s if power.offs.count else traits.off_s


def boot_limit_s(power: PowerRecord, traits: PowerTraits) -> float:
    """How long a boot may take until it counts as failed, in seconds.

    A configured `boot_timeout` is a promise, and so is the default for the first three boots. Then what they teach may
    shorten the default alone: mean and four deviations, at least twice the mean, and never less than a check of the
    file system takes. A node that came up too late once gets the time that it needs.
    """
    boots = power.boots
    learned_s = max(2.0 * boots.mean_s, boots.mean_s + 4.0 * boots.deviation_s)
    if traits.boot_timeout_is_set or boots.count < 3:
        return max(traits.boot_timeout_s, learned_s if boots.count >= 3 else 2.0 * boots.mean_s)
    return max(min(FILE_SYSTEM_CHECK_S, traits.boot_timeout_s), learned_s)


def opens_s(power: PowerRecord, traits: PowerTraits) -> float:
    """When a node without power is expected to take jobs (Unix seconds); infinity when nobody has decided so."""
    if power.phase is not Phase.BOOTING or power.boot_began_s is None:
        return float("inf")
    return power.boot_began_s + boot_s(power, traits)
