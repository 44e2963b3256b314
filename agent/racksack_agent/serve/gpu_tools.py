"""What the parsers of the GPU vendors' tools share: asking a tool, and the shape of a device."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any, Callable, Dict, List, Sequence, Tuple

Gpu = Dict[str, Any]
"""index, uuid, vendor, model, vram_bytes, unified (its memory is the machine's) and fault (empty when it is fine)."""
Found = Tuple[List[Gpu], List[str]]
"""Devices, and sentences about what could not be found out."""

MIB = 1 << 20
VRAM_BYTES_MAX = 1 << 50  # no device has a thousandth of it; more is a tool that prints nonsense
TOOL_S = 20.0  # nvidia-smi takes several seconds while the driver is not loaded
OUTPUT_CHARS_MAX = 4 * MIB
_STARTS_MAX = 1000  # brackets in the warnings before a JSON value


def printed(argv: Sequence[str]) -> Tuple[str, str]:
    """What a tool prints, and a sentence where it hangs or fails; two empty texts where it is not installed."""
    tool = argv[0]
    if not shutil.which(tool):
        return "", ""
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace", timeout=TOOL_S,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "", f"{tool} did not answer within {TOOL_S:g} s; its driver may hang"
    except OSError as problem:
        return "", f"{tool} could not be started: {problem}"
    if done.returncode == 0:
        return done.stdout[:OUTPUT_CHARS_MAX], ""
    words = (done.stderr or done.stdout).strip().splitlines()
    sentence = f"{tool} failed with exit code {done.returncode}: {words[-1] if words else 'it printed nothing'}"
    return done.stdout[:OUTPUT_CHARS_MAX], sentence


def ask(argv: Sequence[str], parse: Callable[[str], Found]) -> Found:
    """What a tool says; nothing at all where it is not installed. A tool that fails may still tell of some devices."""
    text, problem = printed(argv)
    if not text.strip():
        return [], [problem] if problem else []
    found, problems = ask_text(argv[0], text, parse)
    if problem and not any(sentence in problem for sentence in problems):
        problems = [*problems, problem] if found else [problem]
    return found, problems


def ask_text(tool: str, text: str, parse: Callable[[str], Found]) -> Found:
    """What a tool's text says, whatever it holds; a sentence where it cannot be read."""
    try:
        return parse(text)
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        return [], [f"{tool} printed something unexpected: {type(error).__name__}: {error}"]


def json_in(text: str) -> Any:  # noqa: ANN401 - any JSON
    """The JSON value that a tool prints, maybe after warnings. Raises ValueError when there is none."""
    starts = [place for place in (text.find("{"), text.find("[")) if place >= 0]
    for _ in range(_STARTS_MAX):
        if not starts:
            break
        start = min(starts)
        try:
            return json.JSONDecoder().raw_decode(text, start)[0]
        except ValueError:
            starts = [place for place in (text.find("{", start + 1), text.find("[", start + 1)) if place >= 0]
    raise ValueError(f"no JSON in {text[:80]!r}")


def device(index: int, uuid: str, vendor: str, model: str, vram_bytes: int, *, unified: bool = False) -> Gpu:
    """One device of the Inventory, without a fault."""
    return {
        "index": index,
        "uuid": uuid,
        "vendor": vendor,
        "model": model,
        "vram_bytes": min(vram_bytes, VRAM_BYTES_MAX),
        "unified": unified,
        "fault": "",
    }


def ram_bytes() -> int:
    """The memory of the machine."""
    with open("/proc/meminfo", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemTotal:"))
