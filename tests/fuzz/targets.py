"""All that is fuzzed, by name."""

from __future__ import annotations

from collections.abc import Callable

from tests.fuzz import messages, requests, stories, texts

TARGETS: dict[str, Callable[[bytes], None]] = {
    **texts.TARGETS,
    **messages.TARGETS,
    **stories.TARGETS,
    **requests.TARGETS,
}
