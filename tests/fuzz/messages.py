"""Bytes from machines, fed to what reads them: nodes, their tools, archives, sweep runners, clusters."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any

import msgspec

from racksack_agent.serve import amd, kernel_log, nvidia
from racksack_agent.serve.gpu_tools import Found, ask_text
from racksack_agent.serve.nvidia_health import health_of
from racksack_agent.serve.slurm.cluster import inventory, merged, read_partition
from racksack_agent.serve.slurm.commands import read_job
from racksack_agent.sweep_runner.frames import Splitter
from racksack_controller.core.sweeps.ranges import Ranges
from racksack_controller.nodes import agent_answers, bootstrap, lines, link, tar_reader, unpack
from racksack_controller.nodes.node import Inventory, LaunchReply, NodeStats
from racksack_controller.nodes.slurm_facts import SlurmFacts
from racksack_controller.sweeps import receive
from racksack_controller.sweeps.results import segments
from tests.fuzz.texts import folder_of, text

KINDS: tuple[Any, ...] = (
    agent_answers.HelloAnswer,
    Inventory,
    NodeStats,
    list[LaunchReply],
    agent_answers.BringAnswer,
    agent_answers.CheckpointAnswer,
    agent_answers.PieceAnswer,
    SlurmFacts,
    dict[str, agent_answers.Argv],
    link._Message,
    bootstrap._Said,
)
INT64_MAX = 2**63 - 1


def _can_be_stored(value: object) -> None:
    """What was taken goes into the store and into everybody's answers."""
    plain = msgspec.to_builtins(value)
    msgspec.msgpack.encode(plain)
    _no_absurd_number(plain)


def _no_absurd_number(value: Any) -> None:
    if isinstance(value, dict):
        for one in value.values():
            _no_absurd_number(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            _no_absurd_number(one)
    elif isinstance(value, float):
        assert math.isfinite(value)
    elif isinstance(value, int):
        assert -INT64_MAX <= value <= INT64_MAX, value


def agent_lines(data: bytes) -> None:
    """A line of an agent as every type that it may be asked for; and as a report."""
    try:
        line = lines.without_lone_surrogates(data)
    except ValueError:
        return
    for kind in KINDS:
        with contextlib.suppress(ValueError):
            found = lines.decode(line, kind)
            if kind is agent_answers.PieceAnswer:
                found.piece(1000)
            elif kind is link._Message:
                _can_be_stored(found.results)
            elif kind is agent_answers.HelloAnswer:
                _can_be_stored(found.hello(agent_answers.read_reports("r1", found.reports)[0]))
            else:
                _can_be_stored(found)
    with contextlib.suppress(ValueError):
        _can_be_stored(link.report_of("r1", msgspec.Raw(line)))


def archives(data: bytes) -> None:
    """An archive of a node: members one behind the other, and nothing outside of the folder."""
    end = 0
    with contextlib.suppress(tar_reader.DamagedArchive):
        for member in tar_reader.members(data):
            assert member.start > end or not end
            end = member.start
    with folder_of({"beside": b"untouched"}) as place:
        target = place / "in"
        target.mkdir()
        refused = (unpack.UnsafeArchive, unpack.TooMuch, tar_reader.DamagedArchive, OSError)
        with contextlib.suppress(*refused):
            unpack.unpack(data, target, unpack.Room(20, 20_000, 20))
        assert sorted(one.name for one in place.iterdir()) == ["beside", "in"]
        assert (place / "beside").read_bytes() == b"untouched"


def sweep_frames(data: bytes) -> None:
    """What a runner appends to its results: frames that add up, whose numbers can be counted with, or FrameError."""
    with contextlib.suppress(ValueError):
        list(Splitter().feed(data))
    try:
        frames, length = segments.split(data)
        assert length <= len(data)
        told = receive._checked(frames)
    except segments.FrameError:
        return
    mine = Ranges([(0, 50)])
    for one in told:
        _can_be_stored(one.header.ram)
        for low, high in one.back:
            mine.covers(low, high)
        if one.segment is not None:
            ranges = one.segment.ranges()
            _can_be_stored(ranges)
            kept = segments.without(one.segment, mine.missing_of(ranges))
            if kept is not None:
                seconds = float(kept.seconds().sum(dtype=float))
                assert math.isfinite(seconds), seconds
                assert seconds >= 0, seconds
        for failed in one.failed:
            assert failed[3] >= 0


def gpu_tools(data: bytes) -> None:
    """What the GPU vendors' tools print: each reader gives devices and sentences, and nothing else."""
    printed = data.decode("utf-8", "replace")
    parsers: tuple[Callable[[str], Found], ...] = (nvidia.parse_nvidia, amd.parse_amd_smi, amd.parse_rocm_smi)
    for parse in parsers:
        found, problems = ask_text("tool", printed, parse)
        _no_absurd_number(found)
        assert all(isinstance(one, str) for one in problems)
    health = health_of(printed)
    for one in health.values():
        _no_absurd_number(list(one))
    found, _ = ask_text("tool", printed, nvidia.parse_nvidia)
    nvidia.with_instances(found, nvidia.instances(printed), health)
    kernel_log.xids(printed, 1000.0)


def slurm_tools(data: bytes) -> None:
    """Lines of sinfo and squeue."""
    found = []
    for line in text(data).splitlines():
        read_job(line)
        one = read_partition(line)
        if one is not None:
            found.append(merged(one, one))
    if found:
        _can_be_stored(inventory(found, 0))


TARGETS: dict[str, Callable[[bytes], None]] = {
    "agent_lines": agent_lines,
    "archives": archives,
    "sweep_frames": sweep_frames,
    "gpu_tools": gpu_tools,
    "slurm_tools": slurm_tools,
}
