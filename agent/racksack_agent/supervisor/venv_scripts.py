"""Lets the scripts of packages start the Python of the venv that they are in now."""

from __future__ import annotations

import os

from racksack_agent import records

_SHEBANG_BYTES_MAX = 127
_SCRIPT_BYTES_MAX = 1 << 20


def set_script_python(scripts: str, old: str, new: str) -> None:
    """Replace one Python's path by another's in the first lines of scripts, and the venv's in activate scripts. Files
    are replaced, not changed.
    """
    old_venv, new_venv = (os.fsencode(os.path.dirname(os.path.dirname(path))) for path in (old, new))
    for name in os.listdir(scripts):
        path = scripts + "/" + name
        if os.path.islink(path) or not os.path.isfile(path) or os.path.getsize(path) > _SCRIPT_BYTES_MAX:
            continue
        with open(path, "rb") as file:
            data = file.read()
            mode = os.fstat(file.fileno()).st_mode
        if name.lower().startswith("activate"):
            changed = data.replace(old_venv, new_venv)
        elif data.startswith(b"#!") and os.fsencode(old) in data[:8192]:
            changed = _with_python(data, os.fsencode(old), os.fsencode(new))
        else:
            continue
        if changed != data:
            records.replace(path, changed)
            os.chmod(path, mode & 0o777)


def _with_python(script: bytes, old: bytes, new: bytes) -> bytes:
    first, _, rest = script.partition(b"\n")
    if not first.startswith(b"#!" + old):
        return script.replace(old, new, 1)
    first = first.replace(old, new, 1)
    if len(first) <= _SHEBANG_BYTES_MAX and b" " not in new:
        return first + b"\n" + rest
    return b"#!/bin/sh\n'''exec' \"" + new + b'" "$0" "$@"\n\' \'\'\'\n' + rest  # too long for the kernel
