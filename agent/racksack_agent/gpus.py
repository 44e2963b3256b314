"""GPUs of a node, from what the vendors' tools print. A tool that is absent means no GPUs of that vendor; one that hangs or
fails is told as a problem."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

Gpu = Dict[str, Any]


def find() -> Tuple[List[Gpu], List[str]]:
    """All devices, and sentences about tools that could not be asked."""
    return [], []
