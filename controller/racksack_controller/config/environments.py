"""The `environment` block of racksack.yaml: where nodes get packages from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from racksack_jobspecs.readers import MEMORY, Field, Kind, Report, one_of, shown, word_of
from racksack_jobspecs.yamltext import Node

PUBLIC = f"https://{'.'.join(('pypi', 'org'))}/simple"
_SAID = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL")


def _upstream(node: Node, _path: str, _report: Report) -> str:
    word = word_of(node)
    try:
        parts = urlsplit(word)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or not word.isprintable():
        raise ValueError(f"{shown(word)} is not an address; write one such as https://index.example/simple")
    return word


ENVIRONMENT_FIELDS = (
    Field(
        "index",
        one_of("node", "controller"),
        "Which package index nodes use: their own, or the controller's cache.",
        "controller",
        "node",
    ),
    Field(
        "upstream",
        Kind(_upstream, {"type": "string"}),
        "The index behind the controller's cache.",
        "https://index.example/simple",
        "PIP_INDEX_URL of the controller, else the public one",
    ),
    Field("cache", MEMORY, "Size limit of the cache; the least recently used files go first.", "50G", "20G"),
)


class Environments(msgspec.Struct, frozen=True):
    """Where nodes get packages from."""

    index: str = "node"  # node | controller
    upstream: str = PUBLIC
    cache_bytes: int = 20 * 1024**3


def environments_of(values: Mapping[str, Any]) -> Environments:
    """The block, with defaults filled in."""
    named = {"index": "index", "upstream": "upstream", "cache": "cache_bytes"}
    given = {named[key]: value for key, value in values.items()}
    said = next((os.environ[name] for name in _SAID if os.environ.get(name, "").startswith("http")), PUBLIC)
    return Environments(**{"upstream": said, **given})
