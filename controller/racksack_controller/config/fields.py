"""The tables of racksack.yaml's keys: readers and docs/configuration.md come from them."""

from __future__ import annotations

import ipaddress
import math
import re
from pathlib import Path
from typing import Any

import msgspec

from racksack_controller.config.environments import ENVIRONMENT_FIELDS
from racksack_controller.config.limits import LIMITS_FIELDS
from racksack_controller.config.windows import window_of
from racksack_jobspecs.readers import (
    DURATION,
    FLAG,
    MEMORY,
    Field,
    Kind,
    Report,
    list_of,
    matching,
    number_of,
    one_of,
    read_fields,
    shown,
    whole_of,
    word_of,
)
from racksack_jobspecs.units import parse_duration
from racksack_jobspecs.yamlplain import doubled_keys, plain
from racksack_jobspecs.yamltext import Mapping, Node

_HOST = re.compile(r"[A-Za-z0-9_.:%][A-Za-z0-9_.:%-]{0,253}")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\$?")
_GROUP = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}")


class Listen(msgspec.Struct, frozen=True):
    """A TCP address."""

    host: str
    port: int


NOWHERE = Listen("", 0)


def folder_of(node: Node, _path: str, _report: Report) -> Path:
    """An absolute path, where `~` is the controller's home."""
    word = word_of(node)
    if "\0" in word or not word.isprintable():
        raise ValueError("this holds characters that no path should have; write an absolute path")
    try:
        path = Path(word).expanduser()
    except RuntimeError:
        raise ValueError(f"{shown(word)} names the home of an unknown user; write an absolute path") from None
    if not path.is_absolute():
        raise ValueError(f"{shown(word)} is not an absolute path; write one that begins with / or ~")
    return path


HOST = Kind(matching(_HOST, "is not a host; write its name or address, such as 10.10.254.106"), {})
USER = Kind(matching(_USER, "is not a user's name; write the name to log in with, such as racksack"), {})
GROUP = Kind(matching(_GROUP, "is not a group's name; write the group that may submit, such as racksack"), {})


def _shares(node: Node, path: str, report: Report) -> dict[str, float]:
    """User -> part, a number above zero."""
    if not isinstance(node, Mapping):
        raise ValueError("this is a mapping of users to numbers; write {alice: 2, bob: 1}")
    shares: dict[str, float] = {}
    for key, value in node.entries:
        try:
            share = number_of(value)
        except ValueError as error:
            report.add(key.line, f"{path}.{shown(key.text)}", str(error))
            continue
        if not 0 < share <= 1000:
            report.add(key.line, f"{path}.{shown(key.text)}", "is not a part; write a number above 0 and at most 1000")
        shares[key.text] = share
    return shares


def listen_of(node: Node, _path: str, _report: Report) -> Listen:
    """`host:port`, or `off`. The host is an address or localhost, so that it is sure what is listened on."""
    word = word_of(node)
    if word.lower() in ("off", "none"):
        return NOWHERE
    host, colon, port = word.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not port.isascii() or not port.isdigit() or not 0 < int(port[:9]) < 65536:
        raise ValueError(f"{shown(word)} is not an address with a port from 1 to 65535; write 127.0.0.1:8470 or off")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if host != "localhost":
            raise ValueError(f"{shown(host)} is not an address; write 127.0.0.1, an address or 0.0.0.0") from None
    return Listen(host, int(port))


def _price(node: Node, _path: str, _report: Report) -> float:
    price = number_of(node)
    if not 0 <= price <= 1000:
        raise ValueError(f"{word_of(node)} is not a price; write what a kilowatt-hour costs, such as 0.30")
    return price


def _limit(node: Node, _path: str, _report: Report) -> float:
    """A duration; `none` is infinity."""
    word = word_of(node)
    return math.inf if word.lower() in ("none", "never", "off") else parse_duration(word)


def _idle_off(node: Node, path: str, report: Report) -> float:
    """A duration; `never` is infinity, `auto` is -1."""
    return -1.0 if word_of(node).lower() == "auto" else _limit(node, path, report)


def raw_of(node: Node, path: str, report: Report) -> Mapping:
    """A block that another part reads."""
    if not isinstance(node, Mapping):
        raise ValueError("this must be a mapping; write key: value lines below it")
    report.problems += doubled_keys(node, path)
    return node


def _mapping(node: Node, _path: str, _report: Report) -> Mapping:
    if not isinstance(node, Mapping):
        raise ValueError("this must be a mapping; write name: {...} lines below it")
    return node


def fields_of(fields: tuple[Field, ...], familiar: dict[str, str] | None = None) -> Kind:
    """A mapping with these keys."""

    def read(node: Node, path: str, report: Report) -> dict[str, Any]:
        if plain(node) is None:
            return {}
        return read_fields(node, path, fields, report, familiar)

    return Kind(read, {})


def time_of(default: str, key: str, doc: str, example: str) -> Field:
    """A key whose value is a duration."""
    return Field(key, DURATION, doc, example, default)


WEB_FIELDS = (
    Field(
        "listen",
        Kind(listen_of, {}),
        "Where the read-only status page and API listen; off for nowhere.",
        '"127.0.0.1:8470"',
        "127.0.0.1:8470",
    ),
    Field(
        "hosts",
        list_of(HOST),
        "Host names that browsers may use for the page, besides the listen address and localhost; others are refused.",
        "[rack.example.org]",
        "none",
    ),
    Field(
        "token_file",
        Kind(folder_of, {}),
        "A file with lines of USER TOKEN, readable only by the controller: a token allows submitting sweeps over TCP.",
        "/etc/racksack/tokens",
        "nobody may",
    ),
)
DEFAULTS_FIELDS = (
    Field("time_limit", Kind(_limit, {}), "For jobs without one; `none` for no limit.", "7d", "7d"),
    Field(
        "idle_off",
        Kind(_idle_off, {}),
        "Idle time before a node is switched off (auto: learnt, never: stays on), unless its power block differs.",
        "10m",
        "auto",
    ),
    time_of("10m", "lost_after", "Jobs of a node that has not answered for this long run again on other nodes.", "10m"),
    time_of("10s", "grace", "Time between asking a job to end and killing it.", "10s"),
    time_of("10m", "max_grace", "The longest `grace` that a job may ask for.", "10m"),
)
RETURNS_FIELDS = (
    Field("age", DURATION, "Remove results of jobs that ended longer ago than this.", "90d", "no limit"),
    Field(
        "size",
        MEMORY,
        "Total size of results; above it the oldest are removed, fetched ones first.",
        "200G",
        "no limit",
    ),
    Field("per_user", MEMORY, "The same for the results of each user.", "50G", "no limit"),
    time_of("7d", "warn", "How long before removal the owner of results that were not fetched is warned.", "7d"),
)
KEEP_FIELDS = (
    time_of("2d", "uploads", "Remove uploads that no job file named after this time.", "2d"),
    time_of("14d", "snapshots", "Remove project content that no unfinished job uses after this time.", "14d"),
    time_of("30d", "rejected", "Remove refused job files after this time.", "30d"),
    time_of("180d", "jobs", "Remove finished jobs and sweeps from the store after this time, once fetched.", "180d"),
    time_of(
        "1d",
        "left",
        "How long outputs that were not brought back stay on their node, for `fetch-results --also`.",
        "1d",
    ),
    Field("returns", fields_of(RETURNS_FIELDS), "Which results are removed.", "{age: 90d}", "none"),
    Field("left_size", MEMORY, "Disk space that they may take on each node; the oldest go first.", "20G", "20G"),
)
WATCH_FIELDS = (
    time_of(
        "1s", "settle", "How long a file that was not renamed into place must stay unchanged before it is read.", "1s"
    ),
    time_of("10s", "rescan", "How often the jobs folder is scanned even without a notification.", "10s"),
)
SCHEDULING_FIELDS = (
    Field(
        "backfill",
        one_of("easy", "conservative", "none"),
        "Which jobs may be backfilled: those that do not delay the first waiting job, any waiting job, or none.",
        "conservative",
        "easy",
    ),
    Field("fair_share", FLAG, "Jobs of users who used less of the rack recently come first.", "yes", "no"),
    Field(
        "shares",
        Kind(_shares, {"type": "object"}),
        "Each user's share of the rack, relative to other users, who have 1.",
        "{alice: 2}",
        "1 for everybody",
    ),
    Field(
        "max_running_per_owner",
        whole_of(1, 1_000_000, "the number of jobs"),
        "How many jobs of one user may run at once.",
        "20",
        "no limit",
    ),
    Field(
        "preempt",
        FLAG,
        "Jobs that allow it (`preemptible`) are ended and requeued when the first waiting job has a higher priority"
        " and needs their resources.",
        "yes",
        "no",
    ),
)
POWER_FIELDS = (
    Field(
        "keep_on",
        whole_of(0, 10_000, "the number of nodes"),
        "How many nodes stay on when idle, the cheapest first.",
        "1",
        "0",
    ),
    Field(
        "boot_stagger",
        Kind(_limit, {}),
        "Minimum time between switching on two nodes, to limit the inrush current; `none` for no delay.",
        "10s",
        "5s",
    ),
    Field("price_per_kwh", Kind(_price, {}), "Price of a kilowatt-hour, for reports.", "0.30", "no money"),
    Field(
        "quiet",
        list_of(Kind(window_of, {})),
        "Hours of cheap power: jobs of low priority switch nodes on only in these.",
        '["22:00-07:00"]',
        "any time",
    ),
    Field(
        "quiet_priority",
        whole_of(-1000, 1000, "the priority"),
        "Jobs of this priority and below wait for quiet hours.",
        "-10",
        "0",
    ),
)
CONFIG_FIELDS = (
    Field(
        "spool",
        Kind(folder_of, {}),
        "The folder of jobs, projects and results.",
        "/var/lib/racksack",
        "/var/lib/racksack",
    ),
    Field(
        "group",
        GROUP,
        "The group whose members may submit. Without it only the controller's user may.",
        "racksack",
        "none",
    ),
    Field(
        "operators",
        list_of(USER),
        "Users who may act on all jobs and nodes, besides root and the controller's user.",
        "[alice]",
        "none",
    ),
    Field("web", fields_of(WEB_FIELDS), "The status page.", '{listen: "127.0.0.1:8470"}', "see below"),
    Field(
        "defaults",
        fields_of(DEFAULTS_FIELDS),
        "Defaults for jobs and nodes.",
        "{time_limit: 7d}",
        "see below",
    ),
    Field("watch", fields_of(WATCH_FIELDS), "How the jobs folder is watched.", "{settle: 1s}", "see below"),
    Field("keep", fields_of(KEEP_FIELDS), "How long unused data is kept.", "{uploads: 2d}", "see below"),
    Field("limits", fields_of(LIMITS_FIELDS), "Limits for each user.", "{jobs: 5000}", "see below"),
    Field(
        "scheduling",
        fields_of(SCHEDULING_FIELDS),
        "Queue order and backfill.",
        "{fair_share: yes}",
        "see below",
    ),
    Field(
        "power",
        fields_of(POWER_FIELDS, {"price": "price_per_kwh", "stagger": "boot_stagger"}),
        "When servers are switched on and off.",
        "{keep_on: 1}",
        "see below",
    ),
    Field("notify", Kind(_mapping, {}), "Who is notified; see below.", "{me: {email: [a@b.org]}}", "nobody"),
    Field(
        "secrets",
        Kind(_mapping, {}),
        "What jobs may ask for by name (`--secret`); see below.",
        "{WANDB_API_KEY: {file: /etc/racksack/wandb}}",
        "none",
    ),
    Field(
        "data",
        Kind(_mapping, {}),
        "Data sets that are already on nodes; see below.",
        "{imagenet: {path: /srv/imagenet}}",
        "none",
    ),
    Field(
        "environment",
        fields_of(ENVIRONMENT_FIELDS),
        "Where nodes get packages from.",
        "{index: controller}",
        "see below",
    ),
    Field("partitions", Kind(_mapping, {}), "Named sets of nodes; see below.", "{night: {nodes: [r1]}}", "none"),
    Field("nodes", Kind(_mapping, {}), "The servers by name.", "{here: {local: {}}}", is_required=True),
)
