"""Inline script metadata: the comment block at the top of a script that lists its dependencies (PEP 723)."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from racksack_jobspecs.environments.files import FileError, is_file, parse_toml, read_text, text, texts

# As the specification has it.
_BLOCK = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$")


class Listed(msgspec.Struct, frozen=True):
    """Requirements as pip reads them, and the Python versions that go with them."""

    lines: tuple[str, ...]
    requires_python: str = ""


def metadata(project: Path, script: str) -> Listed | None:
    """What a script lists; None where it has no such block. Raises FileError."""
    if not is_file(project, script):
        return None
    try:
        source = read_text(project, script).replace("\r\n", "\n")
    except FileError:
        return None  # a script may be in another encoding; then it has none
    blocks = [match for match in _BLOCK.finditer(source) if match["type"] == "script"]
    if not blocks:
        return None
    if len(blocks) > 1:
        raise FileError(f"{script} has more than one block of script metadata; keep one")
    lines = blocks[0]["content"].splitlines()
    content = "\n".join(line[2:] if line.startswith("# ") else line[1:] for line in lines)
    tables = parse_toml(content, f"the script metadata of {script}")
    return Listed(texts(tables.get("dependencies")), text(tables.get("requires-python")))
