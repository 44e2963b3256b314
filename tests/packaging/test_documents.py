"""Documents: links lead somewhere, the glossary has the words, the README tells the truth about the commands."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from racksack_jobspecs.states import JobState, NodeState
from tests.packaging.checkout import ROOT, relative, tracked

PAGES = tracked("*.md")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
TERMS = {
    "agent",
    "allocation",
    "attempt",
    "backfill",
    "cancel",
    "controller",
    "digest",
    "drain",
    "embedded controller",
    "entrypoint",
    "fair share",
    "gang",
    "hold",
    "inventory",
    "job",
    "job array",
    "label",
    "node",
    "partition",
    "priority",
    "receipt",
    "release",
    "requeue",
    "reservation",
    "reserve",
    "resume",
    "return folder",
    "snapshot",
    "spool",
    "time limit",
}


def anchors(page: Path) -> set[str]:
    """The fragments that a page offers, by the rule of the usual renderers."""
    headings = re.findall(r"^#+ +(.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_lead_somewhere(page: Path) -> None:
    targets = [first or second for first, second in LINK.findall(FENCE.sub("", page.read_text()))]
    for target in targets:
        if re.match(r"[a-z]+:", target):
            continue
        name, _, fragment = target.partition("#")
        aim = (page.parent / name).resolve() if name else page
        assert aim.exists(), f"{relative(page)} links to {target}, which is not there"
        if fragment and aim.suffix == ".md":
            assert fragment in anchors(aim), f"{relative(page)} links to {target}, which has no such heading"


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_no_heading_and_no_table_is_there_twice(page: Path) -> None:
    """As where text was pasted twice and one copy went out of date."""
    text = FENCE.sub("", page.read_text())
    if page.name != "CHANGELOG.md":
        headings = re.findall(r"^## +(.+)$", text, re.MULTILINE)
        assert sorted(headings) == sorted(set(headings))
    rows = [row for row in re.findall(r"^\|.{60,}\|$", text, re.MULTILINE) if not re.fullmatch(r"[| -]+", row)]
    assert sorted(rows) == sorted(set(rows))


def test_the_index_reaches_every_page() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    pages = [path.name for path in tracked("docs/*.md") if path.parent.name == "docs" and path.name != "index.md"]
    assert [name for name in pages if f"({name})" not in index] == []


def defined() -> set[str]:
    """The words in bold that open a paragraph of the glossary."""
    glossary = (ROOT / "docs" / "glossary.md").read_text()
    openings = re.findall(r"^(\*\*.+?\*\*(?:, \*\*.+?\*\*)*)", glossary, re.MULTILINE)
    return {term.lower() for fill_order in openings for term in re.findall(r"\*\*(.+?)\*\*", fill_order)}


def test_the_glossary_defines_the_terms() -> None:
    assert TERMS - defined() == set()


def test_the_glossary_has_every_state() -> None:
    glossary = (ROOT / "docs" / "glossary.md").read_text()
    assert [state for state in [*JobState, *NodeState] if f"`{state}`" not in glossary] == []


@pytest.mark.parametrize("target", ["help", "setup", "demo", "test", "lint", "check", "bench", "clean"])
def test_make_knows_the_target(target: str) -> None:
    ended = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_the_readme_names_only_targets_that_exist_and_ci_runs_its_test_command() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = {
        target for page in PAGES for target in re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(), re.MULTILINE)
    }
    assert {"demo", "test"} <= named <= targets
    assert "exec make test" in (ROOT / ".ci" / "run").read_text()


def test_the_changelog_has_this_version() -> None:
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    assert f"## {version[1]}" in (ROOT / "CHANGELOG.md").read_text()


def documented_rooms() -> dict[str, set[str]]:
    """The table of rooms in docs/architecture.md: package folder -> its sub-folders."""
    table = (ROOT / "docs" / "architecture.md").read_text().partition("\n## Rooms\n")[2].partition("\n## ")[0]
    rooms: dict[str, set[str]] = {}
    package = ""
    for row in re.findall(r"^\| (.+?) \|", table, re.MULTILINE):
        if heading := re.fullmatch(r"\*\*(\w+)\*\*", row):
            package = heading[1]
        elif room := re.fullmatch(r"`([\w/]+)/`", row):
            rooms.setdefault(package, set()).add(room[1])
    return rooms


def test_the_architecture_page_names_every_room() -> None:
    rooms: dict[str, set[str]] = {}
    for path in [*tracked("*.py"), *tracked("*.sql")]:
        package, *folders = Path(relative(path)).parent.parts
        if package in {"agent", "client", "controller", "jobspecs"} and len(folders) > 1 and folders[0] != "examples":
            rooms.setdefault(package, set()).add("/".join(folders[1:]))
    assert documented_rooms() == rooms


def test_no_text_names_a_package_that_is_not_ours() -> None:
    """racksack is on no public index; who registers the name there would own the machines of all who follow a hint."""
    told = [
        *PAGES,
        *tracked("client/**/*.py"),
        *tracked("controller/**/*.py"),
        *tracked("agent/**/*.py"),
        *tracked("scripts/*"),
    ]
    hint = re.compile(r"pip[x]? install (?:--?\S+ )*['\"]?racksack|uvx? (?:pip |tool )?(?:install|run) ['\"]?racksack")
    assert [relative(path) for path in told if hint.search(path.read_text())] == []


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_the_tests_that_a_page_names_are_there(page: Path) -> None:
    named = re.findall(r"`(?:python -m )?(tests/[\w/]+\.py)(?:::\w+)?`", page.read_text())
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_each_table_of_attacks_names_its_tests() -> None:
    rows = [line for line in (ROOT / "docs/security.md").read_text().splitlines() if line.startswith("| ")]
    attacks = [row for row in rows if not row.startswith(("| attack |", "| where |", "| --- "))]
    assert len(attacks) > 35
    assert [row for row in attacks if not re.search(r"`tests/[\w/]+\.py` \|$", row)] == []
