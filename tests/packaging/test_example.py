"""docs/examples/digits: what `make demo` runs."""

from __future__ import annotations

import ast

from packaging.requirements import Requirement

from tests.packaging.checkout import ROOT

DIGITS = ROOT / "docs" / "examples" / "digits"


def requirements() -> list[Requirement]:
    lines = (DIGITS / "requirements.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def test_its_requirements_have_both_bounds() -> None:
    assert len(requirements()) >= 3
    for requirement in requirements():
        assert {specifier.operator for specifier in requirement.specifier} == {">=", "<"}, requirement


def test_it_requires_what_it_imports() -> None:
    tree = ast.parse((DIGITS / "main.py").read_text())
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    third_party = {"sklearn": "scikit-learn", "matplotlib": "matplotlib", "joblib": "joblib", "numpy": "numpy"}
    required = {requirement.name for requirement in requirements()}
    assert {third_party[name] for name in imported & set(third_party)} <= required
    assert "racksack" not in imported
