"""requirements.lock: every package by hash, from no named host, and in step with pyproject.toml."""

from __future__ import annotations

import re
import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.packaging.checkout import ROOT

LOCK = (ROOT / "requirements.lock").read_text()


def locked() -> dict[str, str]:
    """Name -> the lines of that package; a name can have several versions by marker."""
    entries: dict[str, str] = {}
    for block in re.split(r"\n(?=[A-Za-z0-9])", LOCK):
        match = re.match(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==", block)
        if match:
            entries[canonicalize_name(match[1])] = block
    return entries


def declared() -> dict[str, Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lines = [
        *project["project"]["dependencies"],
        *[line for extra in project["project"]["optional-dependencies"].values() for line in extra],
        *[line for group in project["dependency-groups"].values() for line in group],
        *project["build-system"]["requires"],
    ]
    return {canonicalize_name(Requirement(line).name): Requirement(line) for line in lines}


def test_every_package_has_hashes() -> None:
    assert len(locked()) > 40
    assert [name for name, block in locked().items() if "--hash=sha256:" not in block] == []


def test_no_host_is_named() -> None:
    assert "://" not in LOCK
    assert not re.search(r"^--(index|extra-index|find-links|trusted-host)", LOCK, re.MULTILINE)


def test_everything_declared_is_locked_at_a_version_that_fits() -> None:
    for name, requirement in declared().items():
        assert name in locked(), f"{name} is in pyproject.toml and not in requirements.lock; compile it again"
        version = re.search(r"==([^ ;\\\n]+)", locked()[name])
        assert version, name
        assert requirement.specifier.contains(version[1], prereleases=True), (
            f"{name} {version[1]} against {requirement}"
        )


def test_there_is_one_lock() -> None:
    assert not (ROOT / "uv.lock").exists()


def test_the_lock_for_production_is_part_of_the_whole_one() -> None:
    """docs/install.md installs it; the client, the controller and what builds them, at the tested versions."""
    text = (ROOT / "requirements-controller.lock").read_text()
    pins = dict(re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\\n]+)", text, re.MULTILINE))
    assert text.count("--hash=sha256:") >= len(pins)
    whole = {name: re.search(r"==([^ ;\\\n]+)", block) for name, block in locked().items()}
    for name, version in pins.items():
        match = whole[canonicalize_name(name)]
        assert match is not None
        assert match[1] == version, f"{name}: compile requirements-controller.lock again, as its first lines say"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["controller"], "hatchling"]
    assert {canonicalize_name(Requirement(line).name) for line in needed} <= set(map(canonicalize_name, pins))
