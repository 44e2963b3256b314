"""What a project's venv is made of, for the ways in which projects list their packages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from racksack_jobspecs.environments.plan import Plan, PlanError, plan_of
from racksack_jobspecs.spec import Environment

BUILD = '[build-system]\nrequires = ["setuptools>=61"]\nbuild-backend = "setuptools.build_meta"\n'
PROJECT = '[project]\nname = "app"\nversion = "0.1"\n'
SCRIPT = '# /// script\n# requires-python = ">=3.10"\n# dependencies = ["six==1.16.0"]\n# ///\nimport six\n'
POETRY = """
[tool.poetry]
name = "app"
version = "0.1"
[tool.poetry.dependencies]
python = "^3.9"
six = "1.16.0"
[build-system]
requires = ["poetry-core"]
build-backend = "poetry.core.masonry.api"
"""
POETRY_LOCK = """
[[package]]
name = "six"
version = "1.16.0"
[[package]]
name = "numpy"
version = "1.26.0"
[[package]]
name = "numpy"
version = "2.0.0"
[[package]]
name = "own"
version = "1.0"
[package.source]
type = "git"
url = "https://example.org/own.git"
"""
PIPFILE_LOCK = {
    "_meta": {
        "sources": [{"url": f"https://{'.'.join(('pypi', 'org'))}/simple"}, {"url": "https://index.example/simple"}],
        "requires": {"python_version": "3.11"},
    },
    "default": {
        "six": {"version": "==1.16.0", "hashes": ["sha256:00"], "markers": "python_version >= '3.8'"},
        "rich": {"version": "==13.0", "extras": ["jupyter"], "hashes": ["sha256:01", "sha256:02"]},
    },
    "develop": {"pytest": {"version": "==8"}},
}
CONDA = "name: x\ndependencies:\n  - python=3.11\n  - conda-forge::numpy=1.26\n  - pip\n  - pip:\n    - six==1.16.0\n"


def make(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def planned(root: Path, files: dict[str, str], entrypoint: str = "main.py", **wanted: Any) -> Plan:
    return plan_of(make(root, {"main.py": "", **files}), entrypoint, Environment(**wanted))


@pytest.mark.parametrize(
    ("files", "facts"),
    [
        ({}, {"kind": "plain"}),
        ({"requirements.txt": "six"}, {"kind": "requirements", "file": "requirements.txt", "paths": ()}),
        ({"uv.lock": "", "pyproject.toml": PROJECT, "requirements.txt": ""}, {"kind": "lock", "file": "uv.lock"}),
        ({"uv.lock": "", "requirements.txt": ""}, {"kind": "requirements"}),
        ({"pylock.toml": ""}, {"kind": "requirements", "file": "pylock.toml"}),
        ({"pyproject.toml": PROJECT + "dependencies = []"}, {"kind": "project", "installs": "no", "paths": ()}),
        ({"pyproject.toml": PROJECT.replace("]", "]  # metadata") + "dependencies = []"}, {"kind": "project"}),
        ({"pyproject.toml": "project.name = 'x'\nproject.version = '1'\n"}, {"kind": "project", "installs": "no"}),
        ({"pyproject.toml": "[ project ]\n\"name\" = 'x'\n"}, {"kind": "project"}),
        ({"pyproject.toml": PROJECT + BUILD}, {"kind": "project", "installs": "try", "paths": (".",)}),
        ({"pyproject.toml": PROJECT + BUILD, "src/a.py": ""}, {"installs": "try", "paths": ("src",)}),
        ({"pyproject.toml": PROJECT + "dynamic = ['dependencies']\n" + BUILD}, {"kind": "project", "installs": "try"}),
        ({"pyproject.toml": PROJECT + BUILD + "[tool.uv]\npackage = false\n"}, {"installs": "no"}),
        ({"pyproject.toml": "[dependency-groups]\ndev = ['six']\n"}, {"kind": "project", "installs": "no"}),
        ({"pyproject.toml": "[tool.ruff]\nline-length = 100\n"}, {"kind": "plain", "notes": ()}),
        ({"pyproject.toml": "[tool.ruff]\n", "setup.py": ""}, {"file": "setup.py", "installs": "try"}),
        ({"setup.cfg": "[metadata]\nname = x\n"}, {"kind": "project", "file": "setup.cfg"}),
        ({"setup.cfg": "[flake8]\n"}, {"kind": "plain"}),
        ({"pyproject.toml": POETRY}, {"kind": "project", "installs": "try", "constraints": ()}),
        ({"pyproject.toml": POETRY.replace("y]\n", "y]\npackage-mode=false\n", 1)}, {"installs": "no"}),
        ({"pyproject.toml": POETRY, "poetry.lock": POETRY_LOCK}, {"constraints": ("six==1.16.0",)}),
        ({"pyproject.toml": PROJECT + BUILD, "requirements.txt": "", "src/a.py": ""},
         {"kind": "requirements", "file": "requirements.txt", "paths": ("src",)}),
        ({"setup.py": "", "requirements.txt": ""}, {"kind": "requirements", "paths": (".",)}),
        ({"pyproject.toml": PROJECT + 'requires-python = ">=3.12"', "requirements.txt": ""},
         {"requires_python": ">=3.12"}),
        ({"main.py": SCRIPT, "requirements.txt": ""},
         {"kind": "requirements", "lines": ("six==1.16.0",), "requires_python": ">=3.10"}),
        ({"main.py": SCRIPT.replace("\n", "\r\n")}, {"lines": ("six==1.16.0",)}),
        ({"main.py": "# /// other\n# x = 1\n# ///\n"}, {"kind": "plain"}),
        ({"Pipfile.lock": json.dumps(PIPFILE_LOCK), "Pipfile": ""}, {"requires_python": "==3.11.*", "lines": (
            "--extra-index-url https://index.example/simple",
            "six==1.16.0 ; python_version >= '3.8' --hash=sha256:00",
            "rich[jupyter]==13.0 --hash=sha256:01 --hash=sha256:02")}),
        ({"Pipfile": "[packages]\nsix = '*'\nrich = {version = '>=13', extras = ['x']}\n"
                     "own = {git = 'https://example.org/own.git', ref = 'v1'}\nhere = {path = '.', editable = true}\n"},
         {"lines": ("six", "rich[x]>=13", "own @ git+https://example.org/own.git@v1", "-e .")}),
        ({"Pipfile": "[[source]]\nurl = 'https://index.example/simple'\n[packages]\n"},
         {"lines": ("--index-url https://index.example/simple",)}),
    ],
)  # fmt: skip
def test_what_is_chosen(tmp_path: Path, files: dict[str, str], facts: dict[str, Any]) -> None:
    plan = planned(tmp_path, files)
    assert {name: getattr(plan, name) for name in facts} == facts, plan
    assert plan.chosen


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"environment.yml": CONDA}, "environment.yml lists conda packages (numpy), which are not installed"),
        ({"conda.yaml": "dependencies: [a, b, c, d, e, f]"}, "(a, b, c, d, e ...)"),
        (
            {"requirements-gpu.txt": "", "requirements/base.txt": ""},
            "requirements-gpu.txt, requirements/base.txt is there",
        ),
        ({"pyproject.toml": POETRY, "poetry.lock": POETRY_LOCK}, "poetry.lock has several versions of numpy"),
    ],
)
def test_what_is_not_installed_is_said(tmp_path: Path, files: dict[str, str], words: str) -> None:
    [note] = planned(tmp_path, files).notes
    assert words in note


def test_the_pip_part_of_a_conda_environment_is_installed(tmp_path: Path) -> None:
    plan = planned(tmp_path, {"environment.yml": CONDA})
    assert (plan.kind, plan.lines, plan.requires_python) == ("requirements", ("six==1.16.0",), "==3.11.*")
    assert plan.chosen == "the pip part of environment.yml"
    plan = planned(tmp_path / "other", {"environment.yml": CONDA, "requirements.txt": ""})
    assert (plan.file, plan.notes) == ("requirements.txt", ())


def test_a_program_that_is_no_python_script(tmp_path: Path) -> None:
    assert planned(tmp_path, {"run.sh": ""}, "run.sh").kind == "none"
    assert planned(tmp_path, {"requirements.txt": ""}, "run.sh").kind == "requirements"


@pytest.mark.parametrize(
    ("files", "wanted", "words"),
    [
        ({}, {"kind": "lock"}, "the project has no uv.lock"),
        ({"uv.lock": ""}, {"kind": "lock"}, "uv.lock needs the pyproject.toml"),
        ({}, {"kind": "requirements", "file": "gpu.txt"}, "the project has no gpu.txt"),
        ({"pyproject.toml": "[project\n"}, {}, "pyproject.toml is not TOML"),
        ({"pyproject.toml": "[project\n"}, {"kind": "pyproject"}, "fix it"),
        ({"main.py": SCRIPT.replace("]", "")}, {}, "the script metadata of main.py is not TOML"),
        ({"main.py": SCRIPT + SCRIPT}, {}, "more than one block"),
        ({"Pipfile.lock": "{"}, {}, "Pipfile.lock is not JSON"),
        ({"environment.yml": "a: [b"}, {}, "environment.yml: "),
        ({"requirements.txt": ""}, {"extras": ("gpu",)}, "extras and groups are those of a pyproject.toml"),
    ],
)
def test_what_cannot_be_is_a_sentence(
    tmp_path: Path, files: dict[str, str], wanted: dict[str, Any], words: str
) -> None:
    with pytest.raises(PlanError, match=words):
        planned(tmp_path, files, **wanted)


def test_nothing_in_a_project_can_break_it(tmp_path: Path) -> None:
    """Files are users' own: of any kind, in any encoding, leading anywhere."""
    odd = {"pyproject.toml": "tool = 1\nproject = []\n", "Pipfile": "packages = 7\n", "environment.yml": "- 1\n"}
    assert planned(tmp_path / "a", odd).kind == "requirements"
    make(tmp_path / "b", {"main.py": ""})
    (tmp_path / "b/main.py").write_bytes(b"# -*- coding: latin-1 -*-\nx = '\xe9'\n")
    (tmp_path / "b/requirements.txt").mkdir()
    (tmp_path / "b/setup.py").symlink_to("/etc/passwd")
    assert plan_of(tmp_path / "b", "main.py", Environment()).kind == "plain"
    (tmp_path / "b/pyproject.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(PlanError, match=r"pyproject.toml is not UTF-8 text"):
        plan_of(tmp_path / "b", "main.py", Environment())
