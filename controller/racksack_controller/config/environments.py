"""The `environment` block of racksack.yaml: where nodes get packages from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import msgspec

from racksack_jobspecs.index_field import INDEX
from racksack_jobspecs.readers import MEMORY, Field, one_of

PUBLIC = f"https://{'.'.join(('pypi', 'org'))}/simple"
_SAID = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL")


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
        INDEX,
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
