"""Addresses of package indexes in a job file. A password never stands in one: `${NAME}` stands for a secret."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from racksack_jobspecs.readers import Kind, Report, shown, word_of
from racksack_jobspecs.yamltext import Node

ADDRESS_CHARS_MAX = 2000
PLACEHOLDER = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]{0,99})\}")


def _index(node: Node, _path: str, _report: Report) -> str:
    """Mistakes do not repeat the text: it may hold a password."""
    word = word_of(node)
    try:
        parts = urlsplit(word)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        is_address = False
    if not is_address or not word.isprintable() or " " in word or len(word) > ADDRESS_CHARS_MAX:
        raise ValueError("this is not the address of an index; write one such as https://index.example/simple")
    login = parts.netloc.rpartition("@")[0]
    if login and not PLACEHOLDER.fullmatch(login.rpartition(":")[2]):
        raise ValueError(
            "this holds a password, which would be stored; write ${NAME} in its place, and NAME under secrets"
        )
    return word


def secret_names(addresses: Iterable[str]) -> list[str]:
    """The secrets that addresses name."""
    return [name for address in addresses for name in PLACEHOLDER.findall(address)]


def missing_secret(addresses: Iterable[str], secrets: Iterable[str]) -> str | None:
    """A sentence about a placeholder that stands for none of some secrets; None when there is none."""
    known = frozenset(secrets)
    name = next((name for name in secret_names(addresses) if name not in known), None)
    return f"names {shown(name)}, which does not stand under secrets; add it there" if name is not None else None


INDEX = Kind(_index, {"type": "string"})
