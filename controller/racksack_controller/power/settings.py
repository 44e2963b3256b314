"""The settings of the power drivers and of a node's power, as frozen values; `config.py` makes them.

A value here is already checked. None holds a password: a `Secret` says where one is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from racksack_controller.power.secret import Secret
from racksack_controller.power.tls import Trust

MODERN = Trust()
OLD = Trust(legacy=True)


@dataclass(frozen=True, slots=True)
class RedfishSettings:
    """A BMC with a Redfish service; `timeout_s` is that of one request. `system` is for a BMC that has several."""

    url: str
    user: str
    secret: Secret
    trust: Trust = MODERN
    system: str | None = None
    timeout_s: float = 60.0


@dataclass(frozen=True, slots=True)
class IpmiSettings:
    """A BMC that speaks IPMI 2.0 over LAN."""

    host: str
    user: str
    secret: Secret
    port: int = 623
    privilege: str = "admin"
    timeout_s: float = 30.0


@dataclass(frozen=True, slots=True)
class IloSettings:
    """An iLO 2, 3 or 4 by its XML protocol, RIBCL."""

    host: str
    user: str
    secret: Secret
    port: int = 443
    trust: Trust = OLD
    timeout_s: float = 60.0


@dataclass(frozen=True, slots=True)
class WolSettings:
    """Magic packets, up to `repeats`, `spacing_s` apart: from the controller, or from `jump` on the server's subnet."""

    mac: str
    broadcast: str = "255.255.255.255"
    port: int = 9
    interface: str | None = None
    repeats: int = 5
    spacing_s: float = 5.0
    jump: str | None = None
    timeout_s: float = 30.0


@dataclass(frozen=True, slots=True)
class CommandSettings:
    """Programs of the owner's. `off` cuts the power; `soft_off` shuts down."""

    on: tuple[str, ...] = ()
    off: tuple[str, ...] = ()
    soft_off: tuple[str, ...] = ()
    status: tuple[str, ...] = ()
    watts: tuple[str, ...] = ()
    status_by: str = "word"
    timeout_s: float = 30.0


@dataclass(frozen=True, slots=True)
class SshSettings:
    """Shutting a server down from inside; how to reach it stands in the node's `ssh` block."""

    timeout_s: float = 30.0


DriverSettings = RedfishSettings | IpmiSettings | IloSettings | WolSettings | CommandSettings | SshSettings


@dataclass(frozen=True, slots=True)
class Watts:
    """What a server without a sensor draws, as its owner measured it."""

    idle: float
    max: float


@dataclass(frozen=True, slots=True)
class PowerSettings:
    """The power of one node: its ways, in order, and the owner's wishes. `idle_off_s` None means: learn it.

    A server of which no device knows the state counts as off when it was silent for `silence_s` after a shutdown.
    """

    drivers: Mapping[str, DriverSettings]
    on: tuple[str, ...]
    off: tuple[str, ...]
    boot_timeout_s: float = 600.0
    boot_timeout_is_set: bool = False
    idle_off_s: float | None = None
    hard_off: bool = False
    min_on_s: float = 300.0
    off_grace_s: float = 180.0
    silence_s: float = 20.0
    watts: Watts | None = None

    @staticmethod
    def frozen(drivers: Mapping[str, DriverSettings]) -> Mapping[str, DriverSettings]:
        """A copy of the mapping that cannot be changed."""
        return MappingProxyType(dict(drivers))
