"""The vendors' tools: what they print in, devices out; and tools that hang, fail or are absent."""

from __future__ import annotations

from pathlib import Path

import pytest

from racksack_agent.serve import amd, gpu_tools, gpus, nvidia
from racksack_agent.serve.gpu_tools import device

DATA = Path(__file__).parent / "data"
MIB = 1 << 20


def printed(name: str) -> str:
    return (DATA / name).read_text()


def test_nvidia_devices():
    found, problems = nvidia.parse_nvidia(printed("nvidia-smi.two.txt"))
    assert found == [
        device(0, "GPU-5f0c1b7e-2a7d-4d5b-9a0b-3a2f6a1c9e11", "nvidia", "NVIDIA GeForce RTX 3090", 24576 * MIB),
        device(1, "GPU-0d9a2c44-77b1-4b0a-8a7e-5b8f0f5b7a20", "nvidia", "NVIDIA RTX A4000", 16376 * MIB),
    ]
    assert problems == []


def test_a_broken_nvidia_device_is_left_out_and_the_other_one_stays():
    found, problems = nvidia.parse_nvidia(printed("nvidia-smi.broken.txt"))
    assert [gpu["index"] for gpu in found] == [0]
    assert len(problems) == 1
    assert problems[0].startswith("GPU 1 answers with")


def test_rocm_smi_leaves_out_the_graphics_part_of_the_cpu():
    found, problems = amd.parse_rocm_smi(printed("rocm-smi.6.json"))
    model = "Navi 21 [Radeon RX 6800/6800 XT / 6900 XT]"
    assert found == [device(0, "GPU-9246a1b2c3d4e5f6", "amd", model, 17163091968)]
    assert problems == []


def test_rocm_smi_of_older_releases_has_other_spellings_and_no_serial():
    found, _ = amd.parse_rocm_smi(printed("rocm-smi.5.json"))
    assert found == [device(0, "0", "amd", "Navi 23 [Radeon RX 6600/6600 XT/6600M]", 8573157376)]


def test_amd_smi_with_warnings_before_its_json():
    found, problems = amd.parse_amd_smi(printed("amd-smi.gpu_data.txt"))
    assert found == [device(0, "GPU-6f1f0a2b3c4d5e6f", "amd", "AMD Instinct MI300X", 196592 * MIB)]
    assert len(problems) == 1


def test_amd_smi_of_older_releases():
    found, _ = amd.parse_amd_smi(printed("amd-smi.list.json"))
    assert found == [device(0, "0", "amd", "Radeon RX 7900 XTX", 24560 * MIB)]


def test_no_devices_is_a_problem_only_if_the_tool_says_nothing_readable():
    with pytest.raises(ValueError, match="no JSON"):
        amd.parse_rocm_smi(printed("rocm-smi.none.txt"))


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """A PATH of our own, to put tools into."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def add(name: str, script: str) -> None:
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)

    return add


def test_no_tools_no_gpus_no_problems(tools):
    assert gpus.find() == ([], [])


def test_rocm_smi_is_asked_where_amd_smi_fails(tools):
    tools("amd-smi", "echo driver not initialized >&2; exit 1")
    tools("rocm-smi", f"/bin/cat {DATA}/rocm-smi.6.json")
    found, problems = gpus.find()
    assert [gpu["uuid"] for gpu in found] == ["GPU-9246a1b2c3d4e5f6"]
    assert problems == []


def test_both_vendors_in_one_node(tools):
    tools("nvidia-smi", f"/bin/cat {DATA}/nvidia-smi.two.txt")
    tools("amd-smi", f"/bin/cat {DATA}/amd-smi.list.json")
    assert [gpu["vendor"] for gpu in gpus.find()[0]] == ["nvidia", "nvidia", "amd"]


def test_a_tool_that_hangs_is_given_up(tools, monkeypatch):
    monkeypatch.setattr(gpu_tools, "TOOL_S", 0.2)
    tools("nvidia-smi", "exec /bin/sleep 60")
    assert gpus.find() == ([], ["nvidia-smi did not answer within 0.2 s; its driver may hang"])


def test_a_tool_that_fails_is_told_with_its_words(tools):
    tools("nvidia-smi", "echo 'NVIDIA-SMI has failed because it could not communicate with the driver.'; exit 9")
    found, problems = gpus.find()
    assert found == []
    assert problems == [
        "nvidia-smi failed with exit code 9: NVIDIA-SMI has failed because it could not communicate with the driver."
    ]
