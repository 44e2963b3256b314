"""Rules for every file: sizes, no swallowed errors, nothing of the machine it was written on."""

from __future__ import annotations

import ast
import re
import statistics
from pathlib import Path

import pytest

from tests.packaging.checkout import ROOT, relative, tracked

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 500
LONGER_FOR_A_REASON: dict[str, str] = {}  # path -> why one file needs more

SOURCES = tracked("*.py")
SHIPPED = [path for path in SOURCES if relative(path).split("/")[0] in {"agent", "client", "controller", "jobspecs"}]
TEXTS = [path for path in tracked() if path.suffix not in {".png", ".gz", ".xz", ".lock"} and path.name != "LICENSE"]

MACHINE = [str(ROOT)]  # where this checkout is has no place in it
# Written in two halves, so that this file does not contain what it forbids.
HOSTS = ["pypi" + ".org", "python" + "hosted", "deb.debian" + ".org", "registry.npm" + "js"]


def functions(path: Path) -> list[tuple[str, int]]:
    """(name, lines) of each function, decorators not counted."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.append((f"{relative(path)}:{node.lineno} {node.name}", (node.end_lineno or 0) - node.lineno + 1))
    return found


def test_no_function_is_too_long() -> None:
    assert [(name, lines) for path in SOURCES for name, lines in functions(path) if lines > FUNCTION_LINES_MAX] == []


def test_most_functions_are_short() -> None:
    lengths = sorted(lines for path in SHIPPED for _name, lines in functions(path))
    assert statistics.median(lengths) <= 12
    assert lengths[int(len(lengths) * 0.9)] <= 40


def test_no_file_is_too_long() -> None:
    lengths = {relative(path): len(path.read_text().splitlines()) for path in SOURCES}
    assert {name: lines for name, lines in lengths.items() if lines > FILE_LINES_MAX} == {
        name: lengths[name] for name in LONGER_FOR_A_REASON
    }


def swallows(handler: ast.ExceptHandler) -> bool:
    """Catches everything and does nothing with it."""
    names = ast.unparse(handler.type) if handler.type else "BaseException"
    catches_all = re.search(r"\b(BaseException|Exception)\b", names) is not None
    does_nothing = all(
        isinstance(line, ast.Pass | ast.Continue)
        or (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))
        for line in handler.body
    )
    return catches_all and does_nothing


def test_no_error_is_swallowed() -> None:
    swallowed = [
        f"{relative(path)}:{node.lineno}"
        for path in SHIPPED
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler) and swallows(node)
    ]
    assert swallowed == []


def test_the_rule_about_errors_finds_one() -> None:
    tree = ast.parse("try:\n    f()\nexcept (OSError, Exception):\n    pass\n")
    assert [swallows(node) for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)] == [True]


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        relative(path)
        for path in SOURCES
        if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []


@pytest.mark.parametrize("forbidden", [*MACHINE, *HOSTS])
def test_nothing_of_this_machine_or_a_registry_is_named(forbidden: str) -> None:
    assert [relative(path) for path in TEXTS if forbidden in path.read_text(errors="replace")] == []


def test_no_document_speaks_of_a_tracker_by_number() -> None:
    numbered = re.compile(r"\bissue #?[0-9]+\b", re.IGNORECASE)
    assert [
        relative(path) for path in TEXTS if path.suffix in {".md", ".py"} and numbered.search(path.read_text())
    ] == []


def test_scripts_can_be_run() -> None:
    scripts = [path for path in [*tracked("scripts"), ROOT / ".ci" / "run"] if path.read_text().startswith("#!")]
    assert len(scripts) > 3
    assert [relative(path) for path in scripts if not path.stat().st_mode & 0o111] == []


def test_each_schema_file_has_a_number_of_its_own() -> None:
    numbers = [path.name.partition("_")[0] for path in tracked("controller/racksack_controller/migrations/*.sql")]
    assert sorted(numbers) == [f"{index + 1:04}" for index in range(len(numbers))]
