"""Devices that are set aside while a node is up: no job gets them, holders are told, and they come back."""

from __future__ import annotations

import msgspec
import pytest

from racksack_controller.core import events as ev
from racksack_controller.core.rack.amounts import could_ever_hold
from racksack_controller.core.why import never, why_job, why_node
from racksack_jobspecs.resources import Gpu, Inventory, SetAsideGpu
from tests.core.builders import Bench, gpus, inventory, job, node, report, request

DEVICES = gpus(3)
FAULT = "reports ERR! for gpu_util; it may need a reset or a restart"


def set_aside(gpu: Gpu, fault: str = FAULT) -> SetAsideGpu:
    return SetAsideGpu(gpu.index, gpu.uuid, gpu.vendor, gpu.model, gpu.vram_bytes, gpu.unified, fault)


def seen(*bad: int) -> ev.GpusSeen:
    good = tuple(gpu for gpu in DEVICES if gpu.index not in bad)
    return ev.GpusSeen("n1", good, tuple(set_aside(DEVICES[index]) for index in bad), ())


@pytest.fixture
def bench() -> Bench:
    return Bench(node(inventory=inventory(devices=DEVICES)))


def stories(bench: Bench) -> list[str]:
    return [sentence for _job, _node, _at, sentence in bench.state.changes().events]


def test_no_job_gets_a_device_that_is_set_aside(bench: Bench) -> None:
    bench.happen(seen(1))
    bench.submit(job(1, request(1, gpu=1)), job(2, request(1, gpu=1)), job(3, request(1, gpu=1)))
    bench.place()
    held = {uuid for attempt in bench.state.attempts.values() for uuid in attempt.allocation.gpus}
    assert held == {"GPU-0", "GPU-2"}
    assert why_job(bench.reading(), bench.state.jobs[3]).startswith("n1 is short of GPUs (0 free, 1 needed)")


def test_a_job_that_needs_it_waits_and_is_not_refused(bench: Bench) -> None:
    bench.happen(seen(1))
    wants_all = job(1, request(1, gpu=3))
    assert could_ever_hold(wants_all, bench.state.nodes["n1"])
    assert never(wants_all, bench.state.nodes.values()) is None
    bench.submit(wants_all)
    assert bench.place() == []
    assert why_job(bench.reading(), bench.state.jobs[1]) == f"n1: GPU 1 (RTX 3090) {FAULT}; it is set aside"
    bench.happen(seen())
    assert len(bench.place()) == 1


def test_jobs_on_it_go_on_and_are_told_once(bench: Bench) -> None:
    bench.submit(job(1, request(1, gpu=3)))
    bench.run(1)
    bench.happen(seen(2))
    bench.happen(seen(2))
    said = [sentence for sentence in stories(bench) if "GPU 2" in sentence]
    assert said == [f"GPU 2 (RTX 3090) {FAULT}; it is set aside", f"GPU 2 (RTX 3090) {FAULT}; this job holds it"]
    assert bench.state.attempts["1.1"].allocation.gpus == ("GPU-0", "GPU-1", "GPU-2")
    bench.happen(ev.Reported("n1", report("1.1", "ended", outcome="done", ended_at_s=bench.now)), ev.Collected("1.1"))
    bench.happen(seen())
    bench.submit(job(2, request(1, gpu=3)))
    assert len(bench.place()) == 1, "all of it is free again"


def test_why_names_what_is_set_aside_and_what_tools_could_not_tell(bench: Bench) -> None:
    event = msgspec.structs.replace(seen(0), problems=("nvidia-smi: GPU is lost",))
    bench.happen(event)
    said = why_node(bench.state, bench.state.nodes["n1"], bench.now)
    assert said.endswith(f"GPU 0 (RTX 3090) {FAULT}; it is set aside; nvidia-smi: GPU is lost")


def test_what_a_node_says_of_its_devices_is_bounded() -> None:
    one = {"index": 0, "uuid": "GPU-0", "vendor": "nvidia", "model": "x", "vram_bytes": 1, "fault": "y" * 100_000}
    have = {"cpus": 1, "ram_bytes": 1, "disk_bytes": 1, "set_aside": [one], "problems": ["z" * 100_000] * 1000}
    found = msgspec.convert(have, Inventory)
    assert len(found.set_aside[0].fault) == 300
    assert (len(found.problems), len(found.problems[0])) == (50, 300)
    with pytest.raises(msgspec.ValidationError, match="same uuid"):
        msgspec.convert({**have, "gpus": [one]}, Inventory)
