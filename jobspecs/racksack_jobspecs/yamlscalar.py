"""One scalar of YAML with exactly the characters of a text."""

from __future__ import annotations

import re

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]{0,99}")
_RESERVED = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan", "inf"})


def quoted(text: str) -> str:
    """One YAML scalar with exactly these characters. Raises ValueError for half characters (lone surrogates)."""
    if _PLAIN.fullmatch(text) and text.lower() not in _RESERVED:
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        shown = text.encode("utf-8", "backslashreplace").decode()
        raise ValueError(f"{shown} is not Unicode text and cannot stand in a job file; rename or rewrite it") from None
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    if char.isprintable():
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
