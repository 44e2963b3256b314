"""How to install an extra part of racksack: from the place that racksack itself came from.

No package index is named: whoever owns a name there would own every reader of the hint.
"""

from __future__ import annotations

import json
import shlex
import sys
from importlib.metadata import PackageNotFoundError, distribution
from urllib.parse import unquote, urlsplit


def install_hint(extra: str = "controller") -> str:
    """A command for a sentence, or where to read what to do."""
    place = _installed_from()
    if place is None:
        return f"install it from where racksack itself came from, with its extra `{extra}` (docs/install.md)"
    return f"install it with `{shlex.join([sys.executable, '-m', 'pip', 'install', f'{place}[{extra}]'])}`"


def _installed_from() -> str | None:
    """The folder or address that pip recorded (PEP 610); None where it recorded none."""
    try:
        text = distribution("racksack").read_text("direct_url.json")
        url = json.loads(text)["url"] if text else None
    except (PackageNotFoundError, ValueError, KeyError, TypeError):
        return None
    if not isinstance(url, str):
        return None
    parts = urlsplit(url)
    return unquote(parts.path) if parts.scheme == "file" else None
