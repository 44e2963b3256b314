"""How a node is reached, as values; the configuration makes them."""

from __future__ import annotations

from pathlib import Path

import msgspec

AGENT_HOME = "~/.racksack"


class SshSettings(msgspec.Struct, frozen=True):
    """A host behind sshd."""

    host: str
    user: str
    port: int = 22
    identity: Path | None = None  # None: the usual keys of ~/.ssh and the ssh agent
    host_key: str | None = None  # "ssh-ed25519 AAAA...": the one key that is accepted; without it nothing is
    jump: SshSettings | None = None  # the host that the connection goes through
    home: str = AGENT_HOME  # the agent's folder on the node
    python: str = "python3"
    connect_timeout_s: float = 15.0
    keepalive_s: float = 10.0  # three unanswered ones end the connection

    @property
    def address(self) -> str:
        """`user@host`, with the port where it is not the usual one."""
        return f"{self.user}@{self.host}" + (f":{self.port}" if self.port != 22 else "")


class LocalSettings(msgspec.Struct, frozen=True):
    """The controller's own machine."""

    home: Path  # the agent's folder
    shared: bool = False  # jobs of several users may run there, with all the rights of the controller


class SlurmTerms(msgspec.Struct, frozen=True, kw_only=True):
    """With what options jobs are submitted. Empty: Slurm's own defaults."""

    account: str = ""
    qos: str = ""
    constraint: str = ""
    exclusive: bool = False
    options: tuple[str, ...] = ()


class SlurmPartition(msgspec.Struct, frozen=True):
    """A partition of a cluster that may be used. `name` empty: Slurm's default one."""

    name: str
    terms: SlurmTerms
    walltime_s: float
    gpus: str | None = None  # the kind of GPU, as Gres calls it; None: jobs without GPUs
    vram_bytes: int = 0


class SlurmSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A Slurm cluster behind a login node."""

    partitions: tuple[SlurmPartition, ...]
    max_cpus: int | None = None
    absent_s: float = 300.0
    conf: str = ""  # the path of slurm.conf; empty: the default

    @property
    def longest_s(self) -> float:
        """The most time that any job may have."""
        return max(partition.walltime_s for partition in self.partitions)


NodeSettings = SshSettings | LocalSettings


def at_home_of(settings: NodeSettings, spool_id: str) -> NodeSettings:
    """A folder per spool on the node, so that two controllers never take each other's attempts for orphans."""
    if isinstance(settings, SshSettings):
        return msgspec.structs.replace(settings, home=f"{settings.home}/{spool_id}")
    return settings
