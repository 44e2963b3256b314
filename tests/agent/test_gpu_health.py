"""GPUs that are not well: one set aside takes no other with it, and comes back by itself."""

from __future__ import annotations

import json
import random
import re

import pytest

from racksack_agent.serve import amd, gpu_watch, gpus, kernel_log, nvidia, nvidia_health
from racksack_agent.serve.gpu_tools import ram_bytes

LOST = "Unable to determine the device handle for GPU 0000:0B:00.0: GPU is lost.  Reboot the system to recover this GPU"
GIB = 1 << 30


def csv(count: int = 8) -> list[str]:
    return [
        f"{index}, GPU-{index:08d}-1111-2222-3333-444444444444, NVIDIA A100-SXM4-40GB, 40960" for index in range(count)
    ]


def element(index: int, **changes: str) -> str:
    """What `nvidia-smi -q -x` prints of a device, as far as it is read."""
    values = {
        "mig": "Disabled", "used": "4 MiB", "use": "0 %", "ecc": "0", "failure": "No", "pending": "No",
        "temperature": "31 C", "clock": "210 MHz", "hot": "Not Active", "watts": "45.20 W",
        "processes": "", "instances": "",
    }  # fmt: skip
    values.update(changes)
    return """
    <gpu id="00000000:{bus:02X}:00.0">
        <product_name>NVIDIA A100-SXM4-40GB</product_name>
        <mig_mode><current_mig>{mig}</current_mig><pending_mig>{mig}</pending_mig></mig_mode>
        <mig_devices>{instances}</mig_devices>
        <uuid>GPU-{index:08d}-1111-2222-3333-444444444444</uuid>
        <pci><pci_bus_id>00000000:{bus:02X}:00.0</pci_bus_id></pci>
        <performance_state>P0</performance_state>
        <clocks_event_reasons>
            <clocks_event_reason_hw_thermal_slowdown>{hot}</clocks_event_reason_hw_thermal_slowdown>
        </clocks_event_reasons>
        <fb_memory_usage><total>40960 MiB</total><used>{used}</used><free>40000 MiB</free></fb_memory_usage>
        <utilization><gpu_util>{use}</gpu_util></utilization>
        <ecc_errors><volatile>
            <sram_correctable>0</sram_correctable><sram_uncorrectable>0</sram_uncorrectable>
            <dram_correctable>3</dram_correctable><dram_uncorrectable>{ecc}</dram_uncorrectable>
        </volatile></ecc_errors>
        <remapped_rows>
            <remapped_row_pending>{pending}</remapped_row_pending><remapped_row_failure>{failure}</remapped_row_failure>
        </remapped_rows>
        <temperature><gpu_temp>{temperature}</gpu_temp></temperature>
        <gpu_power_readings><power_state>P0</power_state><power_draw>{watts}</power_draw></gpu_power_readings>
        <clocks><graphics_clock>{clock}</graphics_clock><sm_clock>{clock}</sm_clock></clocks>
        <processes>{processes}</processes>
    </gpu>""".format(index=index, bus=index + 1, **values)


def details(*elements: str) -> str:
    body = "".join(elements)
    head = '<?xml version="1.0" ?>\n<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v12.dtd">\n'
    return f"{head}<nvidia_smi_log>{body}\n</nvidia_smi_log>"


def process(pid: int, mib: int, name: str = "python3") -> str:
    inside = f"<pid>{pid}</pid><process_name>{name}</process_name><used_memory>{mib} MiB</used_memory>"
    return f"<process_info>{inside}</process_info>"


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """An nvidia-smi that prints what it is given: devices, details, instances."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(kernel_log, "recent_xids", dict)

    def install(devices: list[str], found: str = "", instances: str = "", code: int = 0) -> None:
        for name, text in (("devices", "\n".join(devices) + "\n"), ("details", found), ("instances", instances)):
            (tmp_path / name).write_text(text)
        script = (
            '#!/bin/sh\ncase "$1" in --query-gpu*) file=devices ;; -L) file=instances ;; *) file=details ;; esac\n'
            f"cat {tmp_path}/$file\nexit {code}\n"
        )
        (tmp_path / "nvidia-smi").write_text(script)
        (tmp_path / "nvidia-smi").chmod(0o755)

    return install


def test_one_lost_device_of_eight_leaves_seven(smi):
    lines = csv()
    lines[3] = LOST
    smi(lines, code=15)
    found, problems = gpus.find()
    assert [gpu["index"] for gpu in found] == [0, 1, 2, 4, 5, 6, 7]
    assert problems[0] == f"nvidia-smi: {LOST}"


def test_no_devices_and_no_driver_are_sentences(smi):
    smi(["No devices were found"], code=6)
    assert gpus.find() == ([], ["nvidia-smi failed with exit code 6: No devices were found"])
    words = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."
    smi([words], code=9)
    assert gpus.find() == ([], [f"nvidia-smi failed with exit code 9: {words}"])


def test_warnings_between_the_lines_take_nothing_away(smi):
    smi([*csv(2), "WARNING: infoROM is corrupted at gpu 0000:0B:00.0"], code=14)
    found, problems = gpus.find()
    assert len(found) == 2
    assert "infoROM" in problems[0]


@pytest.mark.parametrize("uuid", ["GPU-5f0c1b7e-2a7d-4d5b-9a0b-3a2f6a1c9e11", "[N/A]"])
def test_a_device_without_memory_of_its_own_has_the_machines(uuid):
    [gpu], problems = nvidia.parse_nvidia(f"0, {uuid}, NVIDIA GB10, [N/A]\n")
    assert (gpu["vram_bytes"], gpu["unified"], problems) == (ram_bytes(), True, [])
    assert gpu["uuid"] == ("0" if uuid == "[N/A]" else uuid)


def test_two_devices_of_one_uuid():
    line = csv(1)[0]
    found, problems = nvidia.parse_nvidia(f"{line}\n{line}\n")
    assert len(found) == 1
    assert problems == ["GPU 0 has the UUID of another one; it is left out"]


def test_instances_stand_in_place_of_their_device(smi):
    sizes = "".join(
        f"<mig_device><index>{at}</index><fb_memory_usage><total>{mib} MiB</total></fb_memory_usage></mig_device>"
        for at, mib in enumerate((19968, 4864))
    )
    listed = (
        "GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-00000000-1111-2222-3333-444444444444)\n"
        "  MIG 3g.20gb     Device  0: (UUID: MIG-aa11)\n"
        "  MIG 1g.5gb      Device  1: (UUID: MIG-bb22)\n"
        "GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-00000001-1111-2222-3333-444444444444)\n"
        "GPU 2: NVIDIA A100-SXM4-40GB (UUID: GPU-00000002-1111-2222-3333-444444444444)\n"
    )
    found = details(element(0, mig="Enabled", instances=sizes), element(1, mig="Enabled"), element(2))
    smi(csv(3), found, listed)
    devices = gpus.look().devices
    assert [(gpu["uuid"][:6], gpu["vram_bytes"] >> 20, bool(gpu["fault"])) for gpu in devices] == [
        ("MIG-aa", 19968, False), ("MIG-bb", 4864, False), ("GPU-00", 40960, True), ("GPU-00", 40960, False)
    ]  # fmt: skip
    assert devices[0]["model"] == "NVIDIA A100-SXM4-40GB MIG 3g.20gb"
    assert "MIG mode and has no instances" in devices[2]["fault"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"use": "ERR!"}, "ERR! for gpu_util"),
        ({"temperature": "Unknown Error"}, "Unknown Error for gpu_temp"),
        ({"used": "GPU is lost"}, "GPU is lost for used"),
        ({"ecc": "2"}, "2 uncorrectable memory errors"),
        ({"failure": "Yes"}, "could not remap"),
        ({"pending": "Yes"}, "bad memory"),
        ({"hot": "Active"}, "too hot"),
    ],
)
def test_what_sets_a_device_aside_at_once(smi, change, words):
    smi(csv(2), details(element(0), element(1, **change)))
    watch = gpu_watch.GpuWatch(list, list)
    state = watch.state()
    assert [gpu["index"] for gpu in state["gpus"]] == [0]
    [bad] = state["set_aside"]
    assert bad["index"] == 1
    assert words in bad["fault"]
    smi(csv(2), details(element(0), element(1)))
    assert watch.state(fresh=True)["set_aside"] == [bad], "one good look is not enough"
    assert watch.state(fresh=True)["set_aside"] == []


def test_values_that_a_device_does_not_have_say_nothing(smi):
    absent = element(0, use="N/A", ecc="N/A", failure="N/A", pending="N/A", temperature="N/A", watts="N/A", used="N/A")
    smi(csv(1), details(absent))
    state = gpu_watch.GpuWatch(list, list).state()
    assert state["set_aside"] == []
    assert state["use"][0]["use"] is None


def test_clocks_have_to_be_absent_three_times(smi):
    smi(csv(1), details(element(0, clock="N/A")))
    watch = gpu_watch.GpuWatch(list, list)
    assert [len(watch.state(fresh=True)["set_aside"]) for _ in range(4)] == [0, 0, 1, 1]


def test_strangers_keep_a_device_and_our_own_processes_do_not(smi):
    smi(
        csv(2),
        details(element(0, processes=process(1, 6000, "/usr/bin/other")), element(1, processes=process(4242, 6000))),
    )
    state = gpu_watch.GpuWatch(lambda: [4242], list).state()
    [bad] = state["set_aside"]
    assert bad["index"] == 0
    assert bad["fault"] == "is in use by process 1 (other of root), with 6000 MiB of its memory"
    smi(csv(1), details(element(0, processes=process(1, 300, "/usr/lib/Xorg"))))
    assert gpu_watch.GpuWatch(list, list).state()["set_aside"] == [], "a desktop is no stranger"
    smi(csv(1), details(element(0, used="9000 MiB")))
    assert "cannot see" in gpu_watch.GpuWatch(list, list).state()["set_aside"][0]["fault"]
    held = gpu_watch.GpuWatch(list, lambda: ["GPU-00000000-1111-2222-3333-444444444444"])
    assert held.state()["set_aside"] == []


def test_what_a_device_uses(smi):
    smi(csv(1), details(element(0, use="83 %", used="1024 MiB", watts="301.50 W", temperature="71 C")))
    [use] = gpu_watch.GpuWatch(list, lambda: [csv(1)[0].split(", ")[1]]).state()["use"]
    assert (use["use"], use["used_bytes"], use["watts"], use["celsius"]) == (0.83, GIB, 301.5, 71.0)


def test_xids_of_the_kernel_log(smi, monkeypatch):
    log = (
        "4,900,1000000000,-;NVRM: Xid (PCI:0000:02:00): 79, pid='<unknown>', GPU has fallen off the bus.\n"
        "4,901,1000000000,-;NVRM: Xid (PCI:0000:01:00): 31, pid=77, name=python, Ch 00000008, MMU Fault\n"
        "4,902,1000000000,-;usb 1-1: Xid\n"
    )
    assert kernel_log.xids(log, uptime_s=1010.0) == {"0000:02:00": "Xid 79 (fallen off the bus)"}
    assert kernel_log.xids(log, uptime_s=1e6) == {}, "long ago"
    monkeypatch.setattr(kernel_log, "recent_xids", lambda: kernel_log.xids(log, 1010.0))
    smi(csv(2), details(element(0), element(1)))
    [bad] = gpu_watch.GpuWatch(list, list).state()["set_aside"]
    assert bad["index"] == 1
    assert "Xid 79" in bad["fault"]


def test_amd_processors_with_large_shared_memory_are_taken():
    facts = {"Unique ID": "N/A", "VRAM Total Memory (B)": "536870912", "GTT Total Memory (B)": "66571993088"}
    strix = json.dumps({"card0": {**facts, "Card Series": "Radeon 8060S Graphics"}})
    [gpu], problems = amd.parse_rocm_smi(strix)
    assert (gpu["vram_bytes"], gpu["unified"], problems) == (ram_bytes(), True, [])
    raphael = strix.replace("Radeon 8060S Graphics", "Raphael")
    assert amd.parse_rocm_smi(raphael) == ([], [])


def test_one_amd_card_that_cannot_be_described_leaves_the_others():
    cards = '{"card0": {"VRAM Total Memory (B)": "17163091968", "Card Series": "Navi 21"}, "card1": "ERR", "cardx": {}}'
    found, problems = amd.parse_rocm_smi(cards)
    assert [gpu["index"] for gpu in found] == [0]
    assert len(problems) == 2


def test_damage_to_one_device_never_touches_another():
    """Any cut, doubling or change inside one device's part of the output leaves the verdicts on the others."""
    rng = random.Random(7)
    for _ in range(300):
        elements = [element(index) for index in range(4)]
        lines = csv(4)
        victim = rng.randrange(4)
        elements[victim] = damaged(elements[victim], rng)
        lines[victim] = damaged(lines[victim], rng).replace("\n", " ")
        found, _problems = nvidia.parse_nvidia("\n".join(lines))
        health = nvidia_health.health_of(details(*elements))
        others = [f"GPU-{index:08d}-1111-2222-3333-444444444444" for index in range(4) if index != victim]
        assert set(others) <= {gpu["uuid"] for gpu in found}
        for uuid in others:
            assert uuid not in health or health[uuid].fault == ""


def damaged(text: str, rng: random.Random) -> str:
    at = rng.randrange(len(text))
    end = rng.randrange(at, len(text) + 1)
    kind = rng.randrange(4)
    if kind == 0:
        return text[:at] + text[end:]
    if kind == 1:
        return text[:at] + text[at:end] * 2 + text[end:]
    if kind == 2:
        return re.sub(r"\d+", lambda match: rng.choice([match[0], "ERR!", "[N/A]", "-1"]), text)
    return text[:at] + rng.choice(["<", "&", "\0", "GPU is lost", ","]) + text[at:]
