"""Whether NVIDIA's devices are well, and what they use: `nvidia-smi -q -x`, one element a device.

Judged closed: a value that reads `ERR!` or `Unknown Error` sets its device aside. A value that a device does not have
(`N/A`) says nothing, but for clocks that stay `N/A` (see gpu_watch).
"""

from __future__ import annotations

import re
from typing import Dict, List, NamedTuple, Optional, Tuple
from xml.etree import ElementTree

from racksack_agent.serve.gpu_tools import MIB

_BLOCK = re.compile(r"<gpu id=.*?</gpu>", re.DOTALL)
_BAD = re.compile(r"ERR!|Unknown Error|GPU is lost|requires reset", re.IGNORECASE)
_NUMBER = re.compile(r"-?[0-9]{1,12}(?:\.[0-9]{1,12})?(?![0-9])")

# What must not read as an error; newer and older drivers' places of the same value.
_VITAL = (
    "fb_memory_usage/used",
    "utilization/gpu_util",
    "temperature/gpu_temp",
    "clocks/sm_clock",
    "gpu_power_readings/instant_power_draw",
    "gpu_power_readings/power_draw",
    "power_readings/power_draw",
    "performance_state",
    "pci/pci_bus_id",
)
_UNCORRECTABLE = (
    "double_bit/total",
    "sram_uncorrectable",
    "sram_uncorrectable_parity",
    "sram_uncorrectable_secded",
    "dram_uncorrectable",
)
_PENDING = ("retired_pages/pending_retirement", "retired_pages/pending_blacklist")
_HOT = (
    "clocks_event_reasons/clocks_event_reason_hw_thermal_slowdown",
    "clocks_throttle_reasons/clocks_throttle_reason_hw_thermal_slowdown",
)


class Health(NamedTuple):
    """Of one device. None: it does not say."""

    fault: str
    is_mig: bool
    instance_bytes: List[int]  # memory of its MIG instances, in their order
    bus_id: str
    has_clock: bool
    use: Optional[float]  # part of the time, 0 to 1
    used_bytes: Optional[int]
    watts: Optional[float]
    celsius: Optional[float]
    processes: Tuple[Tuple[int, int, str], ...]  # pid, bytes, name


def health_of(text: str) -> Dict[str, Health]:
    """By uuid. What is printed between the elements, and an element that cannot be read, are passed over."""
    found: Dict[str, Health] = {}
    for block in _BLOCK.findall(text):
        try:
            gpu = ElementTree.fromstring(block)  # noqa: S314 - an element alone has no entities to expand
        except ElementTree.ParseError:
            continue
        uuid = _text(gpu, "uuid")
        if uuid:
            found[uuid] = _health(gpu)
    return found


def _health(gpu: ElementTree.Element) -> Health:
    clock = _text(gpu, "clocks/sm_clock")
    use = _number(gpu, "utilization/gpu_util")
    return Health(
        fault=_fault(gpu),
        is_mig=_text(gpu, "mig_mode/current_mig") == "Enabled",
        instance_bytes=[_bytes(one, "fb_memory_usage/total") or 0 for one in gpu.iterfind("mig_devices/mig_device")],
        bus_id=gpu.get("id", "").lower(),
        has_clock=not clock or _NUMBER.search(clock) is not None,
        use=None if use is None else min(1.0, max(0.0, use / 100)),
        used_bytes=_bytes(gpu, "fb_memory_usage/used"),
        watts=next((one for one in (_number(gpu, path) for path in _VITAL[4:7]) if one is not None), None),
        celsius=_number(gpu, "temperature/gpu_temp"),
        processes=tuple(_processes(gpu)),
    )


def _fault(gpu: ElementTree.Element) -> str:
    """Why the device should not be given out, as the end of a sentence that begins with its name; empty: nothing."""
    for path in _VITAL:
        if _BAD.search(_text(gpu, path)):
            return f"reports {_text(gpu, path)} for {path.rpartition('/')[2]}; it may need a reset or a restart"
    errors = sum(int(_number(gpu, f"ecc_errors/volatile/{name}") or 0) for name in _UNCORRECTABLE)
    if errors > 0:
        return f"had {errors} uncorrectable memory errors since its driver was loaded; reset it"
    if _text(gpu, "remapped_rows/remapped_row_failure") == "Yes":
        return "could not remap a bad row of its memory; it should be replaced"
    if _text(gpu, "remapped_rows/remapped_row_pending") == "Yes" or any(_text(gpu, path) == "Yes" for path in _PENDING):
        return "has bad memory that is taken out of use by its next reset; reset it"
    if any(_text(gpu, path) == "Active" for path in _HOT):
        return f"is too hot and has slowed down ({_text(gpu, 'temperature/gpu_temp')}); check its cooling"
    return ""


def _processes(gpu: ElementTree.Element) -> List[Tuple[int, int, str]]:
    found = []
    for one in gpu.iterfind("processes/process_info"):
        pid = _number(one, "pid")
        if pid is not None:
            found.append((int(pid), _bytes(one, "used_memory") or 0, _text(one, "process_name")))
    return found


def _text(element: ElementTree.Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _number(element: ElementTree.Element, path: str) -> Optional[float]:
    match = _NUMBER.match(_text(element, path))
    return float(match[0]) if match else None


def _bytes(element: ElementTree.Element, path: str) -> Optional[int]:
    mib = _number(element, path)
    return None if mib is None else int(mib) * MIB
