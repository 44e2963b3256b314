"""racksack.yaml -> frozen values, or every mistake in it at once, with its line and its remedy.

The values say what the file says, with defaults filled in; nothing here looks at the network or at other files.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from racksack_controller.config.data import DataOnNodes, data_of
from racksack_controller.config.environments import Environments, environments_of
from racksack_controller.config.fields import CONFIG_FIELDS, NOWHERE, Listen
from racksack_controller.config.jumps import resolve_ssh
from racksack_controller.config.limits import Limits, limits_of
from racksack_controller.config.named_blocks import named_blocks
from racksack_controller.config.node_checks import check_nodes
from racksack_controller.config.node_fields import NODE_FIELDS
from racksack_controller.config.notify import Channel, channels_of
from racksack_controller.config.partitions import Partition, partitions_of
from racksack_controller.config.power import parse_power
from racksack_controller.config.power_nodes import check_power
from racksack_controller.config.secrets import JobSecret, secrets_of
from racksack_controller.config.slurm import JOBS_DEFAULT, hoisted, of_cluster, slurm_of, with_own_partitions
from racksack_controller.core.policy import Backfill, Policy
from racksack_controller.core.power_policy import PowerPolicy
from racksack_controller.core.records import Overflow
from racksack_controller.nodes.settings import LocalSettings, NodeSettings, SlurmSettings, SshSettings
from racksack_controller.power.settings import PowerSettings
from racksack_jobspecs import yamlplain, yamltext
from racksack_jobspecs.index_field import missing_secret
from racksack_jobspecs.layout import DEFAULT_SPOOL
from racksack_jobspecs.readers import Report, attempt, read_fields
from racksack_jobspecs.resources import Gpu, Inventory, ResourceRequest, SetAsideGpu
from racksack_jobspecs.yamltext import Problem, YamlError

CONFIG_BYTES_MAX = 4 * 1024**2
DEFAULT_CONFIG = Path("/etc/racksack/racksack.yaml")  # where a controller reads its configuration


class ConfigError(ValueError):
    """A configuration that cannot be used; `problems` are all that is wrong with it."""

    def __init__(self, path: Path | None, problems: Sequence[Problem]) -> None:
        self.path = path
        self.problems = tuple(problems)
        prefix = f"{path}: " if path else ""
        super().__init__("\n".join(f"{prefix}{problem}" for problem in problems))


class Web(msgspec.Struct, frozen=True):
    """The status page. `listen` None: nowhere."""

    listen: Listen | None = Listen("127.0.0.1", 8470)
    hosts: tuple[str, ...] = ()
    token_file: Path | None = None  # who may submit sweeps over TCP


class Defaults(msgspec.Struct, frozen=True):
    """Defaults for jobs and nodes."""

    time_limit_s: float | None = 7 * 86400.0  # None: no limit
    idle_off_s: float | None = None  # None: learnt; infinity: never
    lost_after_s: float = 600.0
    grace_s: float = 10.0  # between the request to end and the kill
    max_grace_s: float = 600.0  # the most that a job may ask for


class Watch(msgspec.Struct, frozen=True):
    """How the jobs folder is watched."""

    settle_s: float = 1.0
    rescan_s: float = 10.0


class Returns(msgspec.Struct, frozen=True):
    """`keep: returns`: what may stay. None: no limit."""

    age_s: float | None = None  # since the end of the job
    size_bytes: int | None = None  # of all results
    per_user_bytes: int | None = None  # of the results of one user
    warn_s: float = 7 * 86400.0  # so long before anything goes that was not fetched, its owner can know

    @property
    def is_limited(self) -> bool:
        """Whether anything ever goes."""
        return (self.age_s, self.size_bytes, self.per_user_bytes) != (None, None, None)


class Keep(msgspec.Struct, frozen=True):
    """How long unused data is kept."""

    uploads_s: float = 2 * 86400.0
    snapshots_s: float = 14 * 86400.0
    rejected_s: float = 30 * 86400.0
    jobs_s: float = 180 * 86400.0
    left_s: float = 86400.0  # outputs that did not come back, on their node
    left_size_bytes: int = 20 * 1024**3  # of a node
    returns: Returns = Returns()


class NodeConfig(msgspec.Struct, frozen=True):
    """One server, as its owner describes it. None: as probed."""

    name: str
    reach: NodeSettings
    reserve: ResourceRequest = ResourceRequest(cpus=0.0, ram_bytes=0)
    max_jobs: int | None = None
    labels: tuple[str, ...] = ()
    partitions: tuple[str, ...] = ()
    address: str | None = None  # for other nodes; None: its ssh host, or this machine's name
    env: dict[str, str] = {}
    cpus: int | None = None
    ram_bytes: int | None = None
    disk_bytes: int | None = None
    gpus: tuple[Gpu, ...] | None = None
    power: PowerSettings | None = None  # None: it is always on
    slurm: SlurmSettings | None = None  # of a cluster: `reach` leads to its login node
    cost: float = 1.0  # of a cluster; see core/placing/overflow

    @property
    def kind(self) -> str:
        """How it is reached, or what it is: ssh | local | slurm."""
        if self.slurm is not None:
            return "slurm"
        return "ssh" if isinstance(self.reach, SshSettings) else "local"

    @property
    def overflow(self) -> Overflow | None:
        """On what terms jobs go to a cluster; None for a server."""
        return None if self.slurm is None else Overflow(self.cost, self.slurm.longest_s)

    def complete(self, probed: Inventory) -> Inventory:
        """What the node has: the configured figures, and the probed ones where none are configured."""
        if self.slurm is not None:
            probed = of_cluster(self.slurm, probed)
        gpus, set_aside = self._devices(probed)
        return Inventory(
            cpus=probed.cpus if self.cpus is None else self.cpus,
            ram_bytes=probed.ram_bytes if self.ram_bytes is None else self.ram_bytes,
            disk_bytes=probed.disk_bytes if self.disk_bytes is None else self.disk_bytes,
            gpus=gpus,
            set_aside=set_aside,
            problems=probed.problems,
            job_cpus=probed.job_cpus,
            job_ram_bytes=probed.job_ram_bytes,
            job_gpus=probed.job_gpus,
        )

    def _devices(self, probed: Inventory) -> tuple[tuple[Gpu, ...], tuple[SetAsideGpu, ...]]:
        """Those that jobs may have, and those that are set aside: configured ones by their number at the tool."""
        if self.gpus is None:
            return probed.gpus, probed.set_aside
        faults = {(one.vendor, one.index): one.fault for one in probed.set_aside}
        good, bad = [], []
        for gpu in self.gpus:
            fault = faults.get((gpu.vendor, gpu.index))
            if fault is None:
                good.append(gpu)
            else:
                bad.append(SetAsideGpu(gpu.index, gpu.uuid, gpu.vendor, gpu.model, gpu.vram_bytes, gpu.unified, fault))
        return tuple(good), tuple(bad)


class Config(msgspec.Struct, frozen=True):
    """The whole of racksack.yaml."""

    spool: Path
    nodes: dict[str, NodeConfig]
    group: str | None = None
    operators: tuple[str, ...] = ()
    web: Web = Web()
    defaults: Defaults = Defaults()
    watch: Watch = Watch()
    keep: Keep = Keep()
    limits: Limits = Limits()
    partitions: dict[str, Partition] = {}
    data: dict[str, DataOnNodes] = {}
    environment: Environments = Environments()
    notify: dict[str, Channel] = {}
    secrets: dict[str, JobSecret] = {}
    scheduling: Policy = Policy()
    power: PowerPolicy = PowerPolicy()
    path: Path | None = None  # the file it came from


def load_config(path: Path) -> Config:
    """Read and check a configuration file. Raises ConfigError with every mistake."""
    try:
        with open(path, "rb") as file:
            text = file.read(CONFIG_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(path, [Problem(0, "", f"the file cannot be read ({error.strerror})")]) from error
    return parse_config(text, path)


def parse_config(text: str | bytes, path: Path | None = None) -> Config:
    """Check a configuration's text. Raises ConfigError with every mistake."""
    try:
        root = yamltext.load(text, CONFIG_BYTES_MAX)
    except YamlError as error:
        raise ConfigError(path, [error.problem]) from None
    if root is None or yamlplain.plain(root) is None:
        raise ConfigError(path, [Problem(1, "", "the file is empty; write at least nodes: {here: {local: {}}}")])
    report = Report()
    values = attempt(lambda node, at, found: read_fields(node, at, CONFIG_FIELDS, found), root, "", report) or {}
    spool: Path = values.get("spool", DEFAULT_SPOOL)
    defaults = _defaults(values.get("defaults", {}))
    nodes = _nodes(values["nodes"], spool, defaults, report) if "nodes" in values else {}
    if values.get("group") is not None:
        _check_shared(root, nodes, report)
    notify = channels_of(values["notify"], report) if "notify" in values else {}
    secrets = secrets_of(values["secrets"], report) if "secrets" in values else {}
    missing = missing_secret([values.get("environment", {}).get("upstream", "")], secrets)
    if missing is not None:
        report.add(yamlplain.line_at(root, "environment.upstream"), "environment.upstream", missing)
    partitions: dict[str, Partition] = {}
    if "partitions" in values:
        partitions = partitions_of(values["partitions"], {name: node.labels for name, node in nodes.items()}, report)
    partitions = with_own_partitions(partitions, [name for name, node in nodes.items() if node.slurm is not None])
    data = data_of(values["data"], nodes, report) if "data" in values else {}
    if report.problems:
        raise ConfigError(path, report.sorted())
    return Config(
        spool=spool,
        nodes={name: _with_partitions(node, partitions) for name, node in nodes.items()},
        partitions=partitions,
        data=data,
        notify=notify,
        secrets=secrets,
        group=values.get("group"),
        operators=values.get("operators", ()),
        web=_web(values.get("web", {})),
        defaults=defaults,
        watch=Watch(**_in_seconds(values.get("watch", {}))),
        keep=_keep(values.get("keep", {})),
        limits=limits_of(values.get("limits", {})),
        environment=environments_of(values.get("environment", {})),
        scheduling=_scheduling(values.get("scheduling", {}), partitions),
        power=_power_policy(values.get("power", {})),
        path=path,
    )


def _in_seconds(values: Mapping[str, float]) -> dict[str, float]:
    return {f"{key}_s": value for key, value in values.items()}


def _keep(values: Mapping[str, Any]) -> Keep:
    times = {key: value for key, value in values.items() if key not in ("left_size", "returns")}
    size = {"left_size_bytes": values["left_size"]} if "left_size" in values else {}
    returns = _returns(values.get("returns", {}))
    return msgspec.structs.replace(Keep(), **_in_seconds(times), **size, returns=returns)


def _returns(values: Mapping[str, Any]) -> Returns:
    names = {"age": "age_s", "size": "size_bytes", "per_user": "per_user_bytes", "warn": "warn_s"}
    return Returns(**{names[key]: value for key, value in values.items()})


def _defaults(values: Mapping[str, float]) -> Defaults:
    """The defaults, with `none` and `auto` as None."""
    seconds: dict[str, float | None] = dict(_in_seconds(values))
    if seconds.get("time_limit_s") == math.inf:
        seconds["time_limit_s"] = None
    if seconds.get("idle_off_s") == -1.0:
        seconds["idle_off_s"] = None
    return msgspec.structs.replace(Defaults(), **seconds)


def _web(values: Mapping[str, Any]) -> Web:
    web = Web(values.get("listen", Web().listen), values.get("hosts", ()), values.get("token_file"))
    return msgspec.structs.replace(web, listen=None) if web.listen == NOWHERE else web


def _with_partitions(node: NodeConfig, partitions: Mapping[str, Partition]) -> NodeConfig:
    found = tuple(name for name, partition in partitions.items() if node.name in partition.nodes)
    return msgspec.structs.replace(node, partitions=found)


def _scheduling(values: Mapping[str, Any], partitions: Mapping[str, Partition]) -> Policy:
    limits = {one.name: one.max_running_per_owner for one in partitions.values() if one.max_running_per_owner}
    known = {**values, "backfill": Backfill(values.get("backfill", Backfill.EASY)), "partition_limits": limits}
    return msgspec.structs.replace(Policy(), **known)


def _power_policy(values: Mapping[str, Any]) -> PowerPolicy:
    """The rack's knobs of power."""
    known = {"boot_stagger_s" if key == "boot_stagger" else key: value for key, value in values.items()}
    if known.get("boot_stagger_s") == math.inf:
        known["boot_stagger_s"] = 0.0
    return msgspec.structs.replace(PowerPolicy(), **known)


def _nodes(block: yamltext.Mapping, spool: Path, defaults: Defaults, report: Report) -> dict[str, NodeConfig]:
    """All nodes; the jumps between them are looked at when all are read."""
    read: dict[str, tuple[int, dict[str, Any]]] = {}
    for one in named_blocks(block, "nodes", "a node's name", NODE_FIELDS, report):
        read[one.name] = (one.line, hoisted(one, report))
        _check_reach(one.line, one.path, one.node, report)
    if not block.entries:
        report.add(block.line, "nodes", "has no nodes; add one, such as here: {local: {}}")
    _check_homes(read, report)
    nodes = {}
    for name, (_, values) in read.items():
        power = _power(name, values["power"], defaults, report) if "power" in values else None
        reach = _reach(name, read, spool, report)
        if reach is not None:
            nodes[name] = _node(name, values, reach, power)
    if not report.problems:  # what is misspelt is fixed first
        check_nodes(nodes, {name: line for name, (line, _) in read.items()}, report)
    lines = {name: values["power"].line for name, (_, values) in read.items() if "power" in values}
    check_power({name: (node.reach, node.power) for name, node in nodes.items()}, lines, report)
    return nodes


def _check_reach(line: int, where: str, node: yamltext.Node, report: Report) -> None:
    if not isinstance(node, yamltext.Mapping):
        return  # said already
    given = {key.text for key, _ in node.entries}
    ways = [way for way in ("ssh", "local", "slurm") if way in given]
    if not ways:
        report.add(line, where, "does not say how to reach the node; add ssh: {host: ..., user: ...} or local: {}")
    elif len(ways) > 1:
        report.add(line, where, f"has both {' and '.join(ways)}; keep one of them")


def _check_homes(read: Mapping[str, tuple[int, dict[str, Any]]], report: Report) -> None:
    """Two nodes on this machine must not share the folder in which one agent keeps its attempts."""
    seen: dict[Path | None, str] = {}
    for name, (line, values) in read.items():
        if "local" not in values:
            continue
        home = values["local"].get("home")
        if home in seen:
            report.add(
                line,
                f"nodes.{name}",
                f"is this machine too, as {seen[home]}; remove it or give it its own local: {{home: ...}}",
            )
        seen[home] = name


def _check_shared(root: yamltext.Node, nodes: Mapping[str, NodeConfig], report: Report) -> None:
    """A job on the controller's machine runs as the controller, and could do all that the controller can."""
    for name, node in nodes.items():
        if isinstance(node.reach, LocalSettings) and not node.reach.shared:
            report.add(
                yamlplain.line_at(root, f"nodes.{name}"),
                f"nodes.{name}",
                "is the controller's own machine: with `group`, any member's job there could read the nodes' SSH key, "
                "the passwords of BMCs and everybody's results. Reach it by ssh as another account, or write "
                "local: {shared: yes} if all members are trusted with that",
            )


def _reach(
    name: str, read: Mapping[str, tuple[int, dict[str, Any]]], spool: Path, report: Report
) -> NodeSettings | None:
    values = read[name][1]
    if "ssh" in values:
        return resolve_ssh(name, {node: found[1].get("ssh") for node, found in read.items()}, report)
    if "local" in values:
        return LocalSettings(values["local"].get("home", spool / "node"), values["local"].get("shared", False))
    return None


def _node(name: str, values: dict[str, Any], reach: NodeSettings, power: PowerSettings | None) -> NodeConfig:
    reserve: Mapping[str, Any] = values.get("reserve", {})
    return NodeConfig(
        name=name,
        reach=reach,
        reserve=ResourceRequest(
            cpus=reserve.get("cpus", 0.0), ram_bytes=reserve.get("ram", 0), disk_bytes=reserve.get("disk", 0)
        ),
        max_jobs=values["slurm"].get("max_jobs", JOBS_DEFAULT) if "slurm" in values else values.get("max_jobs"),
        labels=values.get("labels", ()),
        address=values.get("address"),
        env=values.get("env", {}),
        cpus=values.get("cpus"),
        ram_bytes=values.get("ram"),
        disk_bytes=values.get("disk"),
        gpus=_gpus(values["gpus"]) if "gpus" in values else None,
        power=power,
        slurm=slurm_of(values["slurm"]) if "slurm" in values else None,
        cost=values.get("cost", 1.0),
    )


def _gpus(found: Sequence[Mapping[str, Any]]) -> tuple[Gpu, ...]:
    """The configured devices; they are known by their index, as the vendor's tool counts."""
    devices = [gpu for gpu in found if "model" in gpu and "vram" in gpu for _ in range(gpu.get("count", 1))]
    return tuple(
        Gpu(index=at, uuid=str(at), vendor=gpu["vendor"], model=gpu["model"], vram_bytes=gpu["vram"])
        for at, gpu in enumerate(devices)
    )


def _power(name: str, block: yamltext.Mapping, defaults: Defaults, report: Report) -> PowerSettings | None:
    """A node's power block, whose reader works on plain values; its mistakes get their lines here."""
    mistakes: list[tuple[str, str]] = []
    values = yamlplain.plain(block)
    settings = parse_power(values, "", mistakes)
    for path, sentence in mistakes:
        inner = path.removeprefix(".")
        where = f"nodes.{name}.power.{inner}" if inner else f"nodes.{name}.power"
        report.add(yamlplain.line_at(block, inner), where, sentence)
    if settings is None or "idle_off" in values:
        return settings
    return dataclasses.replace(settings, idle_off_s=defaults.idle_off_s)


__all__ = [
    "Config",
    "ConfigError",
    "Defaults",
    "Keep",
    "Listen",
    "NodeConfig",
    "Watch",
    "Web",
    "load_config",
    "parse_config",
]
