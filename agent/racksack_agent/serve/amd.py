"""AMD's devices, from what amd-smi or rocm-smi prints; spellings changed over the releases.

Each card is read by itself, so that one that cannot be described takes no other with it. The graphics part of a CPU has
a small piece of the machine's memory of its own. Of those, processors made to compute (a large GTT, many compute units)
are taken, with the machine's memory as theirs; the others only drive a display.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, Iterable, List, Tuple

from racksack_agent.serve.gpu_tools import MIB, Found, Gpu, ask, device, json_in, ram_bytes
from racksack_agent.serve.numbers import whole

_AMD_SMI = ("amd-smi", "static", "--asic", "--vram", "--json")
_ROCM_SMI = ("rocm-smi", "--showproductname", "--showuniqueid", "--showmeminfo", "vram", "gtt", "--json")
_VRAM_BYTES_MIN = 1 << 30  # less is the graphics part of a CPU
_GTT_BYTES_MIN = 16 << 30
_COMPUTE_UNITS_MIN = 8
_DISPLAY_ONLY = re.compile(r"raphael|granite ridge|mendocino|dragon range", re.IGNORECASE)
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError)


def look() -> Found:
    """Devices, and sentences about what could not be found out."""
    found, problems = ask(_AMD_SMI, parse_amd_smi)
    if not found:
        found, rocm_problems = ask(_ROCM_SMI, parse_rocm_smi)
        problems = rocm_problems if found else problems + rocm_problems
    return found, problems


def parse_amd_smi(text: str) -> Found:
    """`amd-smi static --json`: a list of devices, since ROCm 7 inside `gpu_data`; warnings may come first. Raises
    ValueError.
    """
    value = json_in(text)
    entries = value.get("gpu_data", []) if isinstance(value, dict) else value
    return _all(((str(at), entry) for at, entry in enumerate(entries)), _amd_smi_card)


def _amd_smi_card(_at: str, entry: Any) -> Tuple[Gpu, int, int]:  # noqa: ANN401 - any JSON
    asic, vram = entry.get("asic"), entry.get("vram")
    asic, vram = (part if isinstance(part, dict) else {} for part in (asic, vram))
    index = int(entry["gpu"])
    units = str(asic.get("num_compute_units", ""))
    model, size = str(asic.get("market_name", "")), amd_bytes(vram.get("size"))
    gpu = device(index, amd_uuid(asic.get("asic_serial"), index), "amd", model, size)
    return gpu, amd_bytes(vram.get("gtt_size")), whole(units) or 0


def parse_rocm_smi(text: str) -> Found:
    """`rocm-smi --json`: an object per card. Raises ValueError."""
    cards = json_in(text).items()
    return _all(((card[4:], facts) for card, facts in cards if card.startswith("card")), _rocm_smi_card)


def _rocm_smi_card(number: str, facts: Any) -> Tuple[Gpu, int, int]:  # noqa: ANN401 - any JSON
    known = {name.lower(): value for name, value in facts.items()}
    index = int(number)
    model = next((known[name] for name in ("card series", "card model", "device name") if known.get(name)), "")
    vram, gtt = (str(known.get(f"{kind} total memory (b)", "0")) for kind in ("vram", "gtt"))
    uuid = amd_uuid(known.get("unique id"), index)
    gpu = device(index, uuid, "amd", str(model), whole(vram) or 0)
    return gpu, whole(gtt) or 0, 0


def _all(cards: Iterable[Tuple[str, Any]], read: Callable[[str, Any], Tuple[Gpu, int, int]]) -> Found:
    """All cards that `read` can read (device, bytes of GTT, compute units), and a sentence about each other one."""
    found: Dict[str, Gpu] = {}
    problems: List[str] = []
    for name, facts in cards:
        try:
            gpu, gtt_bytes, units = read(name, facts)
        except _UNREADABLE:
            problems.append(f"GPU {name} answers with {str(facts)[:200]!r}; it is left out")
            continue
        if _only_shows(gpu, units):
            continue
        sentence = _unfit(gpu, gtt_bytes)
        if not sentence and gpu["uuid"] in found:
            sentence = f"GPU {gpu['index']} has the name of another one; it is left out"
        if sentence:
            problems.append(sentence)
        else:
            found[gpu["uuid"]] = gpu
    return list(found.values()), problems


def _only_shows(gpu: Gpu, units: int) -> bool:
    """Whether it is the part of a CPU that drives a display, which no job means when it asks for a GPU."""
    is_weak = 0 < units < _COMPUTE_UNITS_MIN or _DISPLAY_ONLY.search(gpu["model"]) is not None
    return is_weak and 0 < gpu["vram_bytes"] < _VRAM_BYTES_MIN


def _unfit(gpu: Gpu, gtt_bytes: int) -> str:
    """Why a device is left out; one that computes in the machine's memory gets that as its own."""
    if gpu["vram_bytes"] >= _VRAM_BYTES_MIN:
        return ""
    if gpu["vram_bytes"] and gtt_bytes >= _GTT_BYTES_MIN:
        gpu.update(vram_bytes=ram_bytes(), unified=True)
        return ""
    own = f"has {gpu['vram_bytes'] // MIB} MiB of its own memory" if gpu["vram_bytes"] else "does not tell its memory"
    return f"GPU {gpu['index']} ({gpu['model']}) {own}; it is left out"


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
    return (whole(words[0]) or 0) * MIB if words else 0
