"""GPUs of a node, from what the vendors' tools print; one parser a tool, each a function from text to devices.

A tool that is absent means no GPUs of that vendor. One that hangs or fails, and a device that it cannot describe, is
told as a problem: a sentence beside the devices that are fine.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any, Callable, Dict, List, Sequence, Tuple

Gpu = Dict[str, Any]
Found = Tuple[List[Gpu], List[str]]

_TOOL_S = 20.0  # nvidia-smi takes several seconds while the driver is not loaded
_MIB = 1 << 20
_VRAM_BYTES_MIN = 1 << 30  # less is the graphics part of a CPU, which no job means when it asks for a GPU

_NVIDIA = ("nvidia-smi", "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits")
_AMD_SMI = ("amd-smi", "static", "--asic", "--vram", "--json")
_ROCM_SMI = ("rocm-smi", "--showproductname", "--showuniqueid", "--showmeminfo", "vram", "--json")


def find() -> Found:
    """All devices, and sentences about what could not be found out."""
    nvidia, problems = ask(_NVIDIA, parse_nvidia)
    amd, amd_problems = ask(_AMD_SMI, parse_amd_smi)
    if not amd:
        amd, rocm_problems = ask(_ROCM_SMI, parse_rocm_smi)
        amd_problems = [] if amd else amd_problems + rocm_problems
    return nvidia + amd, problems + amd_problems


def ask(argv: Sequence[str], parse: Callable[[str], Found]) -> Found:
    """What a tool says; nothing at all where it is not installed."""
    tool = argv[0]
    if not shutil.which(tool):
        return [], []
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace", timeout=_TOOL_S,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return [], [f"{tool} did not answer within {_TOOL_S:g} s; its driver may hang"]
    except OSError as problem:
        return [], [f"{tool} could not be started: {problem}"]
    try:
        found, problems = parse(done.stdout)
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        found, problems = [], [f"{tool} printed something unknown: {type(problem).__name__}: {problem}"]
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip().splitlines()
        problems = [f"{tool} failed with exit code {done.returncode}: {words[-1] if words else 'it said nothing'}"]
    return found, problems


def parse_nvidia(text: str) -> Found:
    """`0, GPU-5f0c..., NVIDIA GeForce RTX 3090, 24576` a line, memory in MiB. Raises ValueError."""
    found: List[Gpu] = []
    problems = []
    for line in filter(str.strip, text.splitlines()):
        index, uuid, rest = (part.strip() for part in line.split(",", 2))
        model, _, mib = (part.strip() for part in rest.rpartition(","))
        if not uuid.startswith("GPU-") or not mib.isdigit():
            problems.append(f"GPU {index} answers with {line.strip()!r}; it is left out")
            continue
        found.append(device(int(index), uuid, "nvidia", model, int(mib) * _MIB))
    return found, problems


def parse_amd_smi(text: str) -> Found:
    """`amd-smi static --json`: a list of devices, since ROCm 7 inside `gpu_data`; warnings may come first. Raises
    ValueError.
    """
    value = json_in(text)
    entries = value.get("gpu_data", []) if isinstance(value, dict) else value
    found = []
    for entry in entries:
        asic, vram = entry.get("asic"), entry.get("vram")
        asic, vram = (part if isinstance(part, dict) else {} for part in (asic, vram))
        index = int(entry["gpu"])
        uuid = amd_uuid(asic.get("asic_serial"), index)
        found.append(device(index, uuid, "amd", str(asic.get("market_name", "")), amd_bytes(vram.get("size"))))
    return split_small(found)


def parse_rocm_smi(text: str) -> Found:
    """`rocm-smi --json`: an object per card; spellings changed over the releases. Raises ValueError."""
    found = []
    for card, facts in json_in(text).items():
        if not card.startswith("card"):
            continue
        known = {name.lower(): value for name, value in facts.items()}
        index = int(card[4:])
        model = next((known[name] for name in ("card series", "card model", "device name") if known.get(name)), "")
        vram = str(known.get("vram total memory (b)", "0"))
        uuid = amd_uuid(known.get("unique id"), index)
        found.append(device(index, uuid, "amd", str(model), int(vram) if vram.isdigit() else 0))
    return split_small(found)


def json_in(text: str) -> Any:  # noqa: ANN401 - any JSON
    """The JSON value that a tool prints, maybe after warnings. Raises ValueError when there is none."""
    starts = [place for place in (text.find("{"), text.find("[")) if place >= 0]
    while starts:
        start = min(starts)
        try:
            return json.JSONDecoder().raw_decode(text, start)[0]
        except ValueError:
            starts = [place for place in (text.find("{", start + 1), text.find("[", start + 1)) if place >= 0]
    raise ValueError(f"no JSON in {text[:80]!r}")


def amd_uuid(serial: object, index: int) -> str:
    """The name that ROCR_VISIBLE_DEVICES takes: GPU- and the chip's serial; the index where it has none."""
    text = str(serial or "").lower()
    digits = text[2:] if text.startswith("0x") else text
    if not digits or digits.strip("0") == "" or any(digit not in "0123456789abcdef" for digit in digits):
        return str(index)
    return "GPU-" + digits.rjust(16, "0")


def amd_bytes(size: object) -> int:
    """`{"value": 32704, "unit": "MB"}`, or the older `32704` and `"32704 MB"`; amd-smi's MB are MiB. 0 when unknown."""
    value = size.get("value") if isinstance(size, dict) else size
    words = str(value).split()
    return int(words[0]) * _MIB if words and words[0].isdigit() else 0


def split_small(found: List[Gpu]) -> Found:
    """Leave out the graphics parts of CPUs."""
    small = [gpu for gpu in found if gpu["vram_bytes"] < _VRAM_BYTES_MIN]
    sentences = [
        f"GPU {gpu['index']} ({gpu['model']}) has {gpu['vram_bytes'] // _MIB} MiB of its own memory; it is left out"
        for gpu in small
    ]
    return [gpu for gpu in found if gpu not in small], sentences


def device(index: int, uuid: str, vendor: str, model: str, vram_bytes: int) -> Gpu:
    """One device of the Inventory."""
    return {"index": index, "uuid": uuid, "vendor": vendor, "model": model, "vram_bytes": vram_bytes}
