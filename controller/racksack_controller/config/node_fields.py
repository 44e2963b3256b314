"""The tables of a node's keys in racksack.yaml: readers and docs/configuration.md come from them."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

import msgspec

from racksack_controller.config.fields import HOST, USER, fields_of, folder_of, raw_of, time_of
from racksack_controller.config.slurm_fields import COST, SLURM_OWN_FIELDS
from racksack_controller.nodes.settings import AGENT_HOME
from racksack_jobspecs.readers import (
    CPUS,
    ENV,
    FLAG,
    LABEL,
    LINE,
    MEMORY,
    Field,
    Kind,
    Report,
    list_of,
    one_of,
    read_fields,
    sequence_of,
    shown,
    whole_of,
    word_of,
)
from racksack_jobspecs.yamltext import Mapping, Node, Sequence

_KEY_TYPES = (
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)
_VENDOR_WORDS = {
    "nvidia": re.compile(
        r"nvidia|geforce|quadro|tesla|titan|\brtx|\bgtx|\b[ahbvlpt](4|10|16|30|40|100|200|800)s?\b", re.IGNORECASE
    ),
    "amd": re.compile(r"\bamd\b|radeon|instinct|vega|navi|\brx\b|\brx[ -]?[0-9]{3,4}|\bmi[0-9]{2,3}", re.IGNORECASE),
}


class JumpName(msgspec.Struct, frozen=True):
    """A jump that names another node; whether there is one is seen when all nodes are read."""

    line: int
    path: str
    name: str


def home_of(node: Node, _path: str, _report: Report) -> str:
    """A folder on a node, where `~` is its user's home."""
    word = word_of(node)
    if not word.startswith(("/", "~/")) or not word.isprintable() or ".." in word.split("/"):
        raise ValueError(f"{shown(word)} is not a folder of the node; write a path that begins with / or ~/")
    return word


def _host_key(node: Node, _path: str, _report: Report) -> str:
    """`type base64`, as in known_hosts and in a .pub file; a comment behind it is dropped."""
    parts = word_of(node).split()
    remedy = 'write "ssh-ed25519 AAAA...", as `racksack node add` shows it'
    if len(parts) < 2 or parts[0] not in _KEY_TYPES:
        raise ValueError(f"{shown(word_of(node))} is not a host key; {remedy}")
    try:
        blob = base64.b64decode(parts[1], validate=True)
    except binascii.Error:
        raise ValueError(f"the key after {parts[0]} is cut or damaged; {remedy}") from None
    name = parts[0].encode()
    if not blob.startswith(len(name).to_bytes(4, "big") + name) or len(blob) <= 4 + len(name):
        raise ValueError(f"the key after {parts[0]} is not a key of that type; {remedy}")
    return f"{parts[0]} {parts[1]}"


def _jump(node: Node, path: str, report: Report) -> JumpName | dict[str, Any]:
    if isinstance(node, Mapping):
        return read_fields(node, path, SSH_FIELDS, report)
    return JumpName(node.line, path, word_of(node))


def _vendor(model: str) -> str | None:
    return next((vendor for vendor, words in _VENDOR_WORDS.items() if words.search(model)), None)


def _gpu(node: Node, path: str, report: Report) -> dict[str, Any]:
    values = read_fields(node, path, GPU_FIELDS, report, {"name": "model", "memory": "vram"})
    if "model" in values and "vendor" not in values:
        values["vendor"] = _vendor(values["model"])
        if values["vendor"] is None:
            raise ValueError(f"unknown vendor of {shown(values['model'])}; add vendor: nvidia or vendor: amd")
    return values


def _no_single(node: Node, path: str, report: Report) -> tuple[dict[str, Any], ...]:
    if not isinstance(node, Sequence):
        raise ValueError("this must be a list; write gpus: [{model: ..., vram: ..., count: ...}], or [] for none")
    found: tuple[dict[str, Any], ...] = sequence_of(Kind(_gpu, {})).read(node, path, report)
    return found


RESERVE_FIELDS = (
    Field("cpus", CPUS, "CPU cores kept from jobs.", "1", "0"),
    Field("ram", MEMORY, "Memory kept from jobs.", "2G", "0"),
    Field("disk", MEMORY, "Disk space kept from jobs.", "10G", "0"),
)
GPU_FIELDS = (
    Field("model", LINE, "The device's name.", "RX 6600", is_required=True),
    Field("vram", MEMORY, "Memory of each device.", "8G", is_required=True),
    Field("count", whole_of(1, 64, "the number of devices"), "How many of them.", "8", "1"),
    Field("vendor", one_of("nvidia", "amd"), "Its vendor, if the name does not tell.", "amd", "from the name"),
)
SSH_FAMILIAR = {"hostname": "host", "proxyjump": "jump", "key": "identity"}
SSH_FIELDS = (
    Field("host", HOST, "Its host name or address, as seen from the controller.", "10.10.254.106", is_required=True),
    Field("user", USER, "The user to log in as.", "racksack", is_required=True),
    Field("port", whole_of(1, 65535, "the port"), "The port of sshd.", "22", "22"),
    Field("identity", Kind(folder_of, {}), "The private key.", "/etc/racksack/id_ed25519", "the usual keys in ~/.ssh"),
    Field(
        "host_key",
        Kind(_host_key, {}),
        "The host key; `racksack node trust` stores it. No other key is accepted.",
        '"ssh-ed25519 AAAA..."',
        "none is accepted",
    ),
    Field(
        "jump",
        Kind(_jump, {}),
        "The node to go through, or a mapping of these same keys for a host that is not a node.",
        "r1",
        "none",
    ),
    Field("home", Kind(home_of, {}), "The agent's folder on the node.", "/scratch/racksack", AGENT_HOME),
    Field("python", LINE, "The Python (3.9 or newer) that runs the agent.", "/usr/bin/python3.11", "python3"),
    time_of("15s", "connect_timeout", "Time limit for opening a connection.", "60s"),
    time_of(
        "10s",
        "keepalive",
        "Interval of keepalives on an idle connection; three without an answer close it.",
        "5s",
    ),
)
LOCAL_FIELDS = (
    Field("home", Kind(folder_of, {}), "The agent's folder.", "/scratch/racksack", "SPOOL/node"),
    Field(
        "shared",
        FLAG,
        "With `group`: all who may submit are trusted with all that the controller may do, since their jobs run as it.",
        "yes",
        "no",
    ),
)
SLURM_FIELDS = (
    Field(
        "ssh",
        fields_of(SSH_FIELDS, SSH_FAMILIAR),
        "The login node; keys as of any server's ssh. Name one host, not an alias of several.",
        "{host: login.example.org, user: me}",
    ),
    Field(
        "local",
        fields_of(LOCAL_FIELDS),
        "In place of ssh: the controller runs on the login node.",
        "{}",
        may_be_empty=True,
    ),
    Field(
        "home",
        Kind(home_of, {}),
        "The agent's folder, on a file system that all nodes share.",
        "/scratch/me/racksack",
        "that of ssh or local",
    ),
    *SLURM_OWN_FIELDS,
)
NODE_FIELDS = (
    Field(
        "ssh",
        fields_of(SSH_FIELDS, SSH_FAMILIAR),
        "A server behind sshd.",
        "{host: 10.10.254.106, user: racksack}",
    ),
    Field("local", fields_of(LOCAL_FIELDS), "The controller's own machine.", "{}", may_be_empty=True),
    Field(
        "slurm",
        fields_of(SLURM_FIELDS),
        "A Slurm cluster, through its login node; see clusters.md.",
        "{ssh: {host: login.example.org, user: me}, account: proj1}",
    ),
    COST,
    Field("reserve", fields_of(RESERVE_FIELDS), "Resources kept from jobs.", "{cpus: 1, ram: 2G}", "nothing"),
    Field(
        "address",
        HOST,
        "Host name or address under which other nodes reach it, for jobs on several nodes.",
        "10.20.0.6",
        "its ssh host; of the controller's own machine: its host name",
    ),
    Field(
        "max_jobs", whole_of(1, 100_000, "the number of jobs"), "How many jobs it may run at once.", "12", "no limit"
    ),
    Field("labels", list_of(LABEL, splits_at_commas=True), "Labels that jobs can ask for.", "[epyc]", "none"),
    Field("env", ENV, "Environment variables for every job on it.", '{HSA_OVERRIDE_GFX_VERSION: "10.3.0"}', "none"),
    Field("cpus", whole_of(1, 65536, "the number of cores"), "Overrides the detected value.", "32", "probed"),
    Field("ram", MEMORY, "Overrides the detected value.", "128G", "probed"),
    Field("disk", MEMORY, "Overrides the detected value.", "900G", "probed"),
    Field(
        "gpus",
        Kind(_no_single, {}),
        "Overrides the detected devices, in the order of their indices; [] for none.",
        "[{model: RX 6600, vram: 8G, count: 8}]",
        "probed",
    ),
    Field(
        "power",
        Kind(raw_of, {}),
        "How it is switched on and off; see power-drivers.md.",
        "{on: [...], off: [ssh]}",
        "always on",
    ),
)
