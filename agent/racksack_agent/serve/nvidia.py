"""NVIDIA's devices, from what nvidia-smi prints.

Three reports are read, each line or element by itself, so that one lost device takes no other with it:

- `--query-gpu=... --format=csv`: the devices, a line each.
- `-L`: the instances of devices in MIG mode, which stand in place of the device.
- `-q -x`: health, what is used, and by which processes. What is not in it is not judged.
"""

from __future__ import annotations

import re
from typing import Dict, List, Tuple

from racksack_agent.serve.gpu_tools import MIB, VRAM_BYTES_MAX, Found, Gpu, ask, device, printed, ram_bytes
from racksack_agent.serve.numbers import whole
from racksack_agent.serve.nvidia_health import Health, health_of

_QUERY = ("nvidia-smi", "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits")
_LIST = ("nvidia-smi", "-L")
_DETAILS = ("nvidia-smi", "-q", "-x")

_NOT_THERE = re.compile(r"\[?(N/A|Not Supported|Not Available)\]?", re.IGNORECASE)
_UUID = re.compile(r"(GPU|MIG)-[0-9A-Za-z/-]+")
_LISTED_GPU = re.compile(r"GPU\s+\d+: .*\(UUID: (GPU-[^)\s]+)\)")
_LISTED_MIG = re.compile(r"\s+MIG\s+(\S+)\s+Device\s+(\d+):\s+\(UUID: (MIG-[^)\s]+)\)")
_PROFILE_GB = re.compile(r"\.([0-9]{1,6})gb")


def look() -> Tuple[List[Gpu], List[str], Dict[str, Health]]:
    """Devices (with their faults), sentences about what could not be found out, and what each uses, by uuid."""
    found, problems = ask(_QUERY, parse_nvidia)
    if not found:
        return found, problems, {}
    health = health_of(printed(_DETAILS)[0])
    for gpu in found:
        of_it = health.get(gpu["uuid"])
        gpu["fault"] = gpu["fault"] or (of_it.fault if of_it else "")
    if not health or any(one.is_mig for one in health.values()):
        found = with_instances(found, instances(printed(_LIST)[0]), health)
    return found, problems, health


def parse_nvidia(text: str) -> Found:
    """`0, GPU-5f0c..., NVIDIA GeForce RTX 3090, 24576` a line, memory in MiB; other lines are told as they stand."""
    found: List[Gpu] = []
    problems = []
    seen = set()
    for line in filter(None, map(str.strip, text.splitlines())):
        parts = [part.strip() for part in line.split(",", 2)]
        if len(parts) < 3 or whole(parts[0]) is None:
            problems.append(f"nvidia-smi: {line}")
            continue
        model, _, memory = (part.strip() for part in parts[2].rpartition(","))
        gpu = _device(int(parts[0]), parts[1], model, memory)
        if gpu is None:
            problems.append(f"GPU {parts[0]} answers with {line!r}; it is left out")
        elif gpu["uuid"] in seen:
            problems.append(f"GPU {parts[0]} has the UUID of another one; it is left out")
        else:
            seen.add(gpu["uuid"])
            found.append(gpu)
    return found, problems


def _device(index: int, uuid: str, model: str, memory: str) -> Gpu | None:
    """None for what cannot be used. A device without memory of its own has the machine's."""
    if not model or _is_bad(model):
        return None
    mib = whole(memory)
    if mib:
        return device(index, uuid, "nvidia", model, mib * MIB) if _UUID.fullmatch(uuid) else None
    if not _NOT_THERE.fullmatch(memory):
        return None
    name = uuid if _UUID.fullmatch(uuid) else str(index) if _NOT_THERE.fullmatch(uuid) else ""
    return device(index, name, "nvidia", model, ram_bytes(), unified=True) if name else None


def _is_bad(text: str) -> bool:
    return bool(re.search(r"ERR!|Unknown Error|GPU is lost|requires reset", text, re.IGNORECASE))


def instances(text: str) -> Dict[str, List[Tuple[str, str]]]:
    """From `nvidia-smi -L`, by the uuid of the device: profile and uuid of each of its MIG instances."""
    found: Dict[str, List[Tuple[str, str]]] = {}
    parent = ""
    for line in text.splitlines():
        gpu, mig = _LISTED_GPU.match(line), _LISTED_MIG.match(line)
        if gpu:
            parent = gpu[1]
        elif mig and parent:
            found.setdefault(parent, []).append((mig[1], mig[3]))
    return found


def with_instances(found: List[Gpu], listed: Dict[str, List[Tuple[str, str]]], health: Dict[str, Health]) -> List[Gpu]:
    """The devices, those in MIG mode replaced by their instances; one without instances is set aside."""
    devices = []
    for gpu in found:
        of_it = health.get(gpu["uuid"])
        parts = listed.get(gpu["uuid"], [])
        if not parts and of_it is not None and of_it.is_mig:
            gpu["fault"] = gpu["fault"] or "is in MIG mode and has no instances; create them with `nvidia-smi mig`"
        devices += [_instance(gpu, profile, uuid, of_it, at) for at, (profile, uuid) in enumerate(parts)] or [gpu]
    return devices


def _instance(gpu: Gpu, profile: str, uuid: str, health: Health | None, at: int) -> Gpu:
    sizes = health.instance_bytes if health else []
    size = _PROFILE_GB.search(profile)
    vram_bytes = sizes[at] if at < len(sizes) else min(int(size[1]) * 1024 * MIB, VRAM_BYTES_MAX) if size else 0
    return {**gpu, "uuid": uuid, "model": f"{gpu['model']} MIG {profile}", "vram_bytes": vram_bytes}
