"""Whether the packages in a venv are whole. Installers link files out of a cache that is not flushed to disk: after a
power cut it may hold empty files under the right names, which import without an error and lack everything.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import os
from typing import List

_HASHED_BYTES_MAX = 1 << 20  # larger files are compared by their size: a power cut makes files shorter


def damaged(venv: str) -> List[str]:
    """The names of the packages whose files differ from what their RECORD says. Raises OSError."""
    found = []
    for place in _site_packages(venv):
        for name in sorted(os.listdir(place)):
            if name.endswith(".dist-info") and not _is_whole(place, name):
                found.append(name.partition("-")[0])
    return found


def _site_packages(venv: str) -> List[str]:
    lib = venv + "/lib"
    return [f"{lib}/{name}/site-packages" for name in os.listdir(lib) if os.path.isdir(f"{lib}/{name}/site-packages")]


def _is_whole(place: str, info: str) -> bool:
    try:
        with open(f"{place}/{info}/RECORD", encoding="utf-8", newline="") as file:
            lines = list(csv.reader(file))
    except FileNotFoundError:
        return False
    except (ValueError, csv.Error):
        return False
    return bool(lines) and all(_is_as_recorded(place, *line) for line in lines if len(line) == 3)


def _is_as_recorded(place: str, path: str, digest: str, size: str) -> bool:
    """Scripts outside of the packages' folder are written anew for each venv."""
    kind, _, wanted = digest.partition("=")
    if path.startswith(("..", "/")) or kind != "sha256":
        return True
    try:
        size_bytes = os.stat(f"{place}/{path}").st_size
        if size.isdigit() and int(size) != size_bytes:
            return False
        if size_bytes > _HASHED_BYTES_MAX:
            return True
        with open(f"{place}/{path}", "rb") as file:
            found = hashlib.sha256(file.read()).digest()
    except FileNotFoundError:
        return False
    return base64.urlsafe_b64encode(found).rstrip(b"=").decode() == wanted.rstrip("=")
