"""Imports between our modules run one way: no circle anywhere, counting those for type checkers alone."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

import grimp
import pytest

PACKAGES = ("racksack", "racksack_agent", "racksack_controller", "racksack_jobspecs")


def imports() -> dict[str, set[str]]:
    """What each module imports, lazily inside functions too. A package's own `__init__` counts as a module."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    return {module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules}


def test_no_circle_between_modules() -> None:
    found = imports()
    assert len(found) > 400
    try:
        TopologicalSorter(found).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))
