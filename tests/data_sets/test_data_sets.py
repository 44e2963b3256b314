"""Data sets as their users meet them, on a controller whose node is this machine."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.site import Site

pytestmark = [
    pytest.mark.skipif(shutil.which("rsync") is None, reason="needs rsync"),
    pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux"),
]

CONFIG = """\
web: {{listen: "off"}}
watch: {{settle: 1s, rescan: 2s}}
data: {{here-already: {{path: {path}}}, elsewhere: {{path: /nowhere, nodes: [far]}}}}
nodes:
  here: {{local: {{}}, cpus: 4, ram: 8G}}
  far: {{local: {{home: {far}}}, cpus: 1, ram: 1G}}
"""
READER = """\
import json, os, sys
root = os.environ["RACKSACK_DATA_DIR"]
seen = {}
for name in sorted(os.listdir(root)):
    with open(os.path.join(root, name, "a.txt")) as file:
        seen[name] = file.read()
for target in sys.argv[1:]:
    try:
        with open(target.replace("DATA", root), "a") as file:
            file.write("spoilt")
        seen[target] = "written"
    except OSError as error:
        seen[target] = type(error).__name__
place = os.environ.get("PLACE")
if place:
    seen["place"] = os.path.realpath(place)
print(json.dumps(seen))
"""


class Data:
    """A site with a project that reads data sets."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.project = site.work / "project"
        self.project.mkdir()
        (self.project / "main.py").write_text(READER)

    def folder(self, name: str, text: str) -> Path:
        folder = self.site.work / name
        (folder / "sub").mkdir(parents=True, exist_ok=True)
        (folder / "a.txt").write_text(text)
        (folder / "sub" / "b.bin").write_bytes(b"x" * 300_000)
        return folder

    def run(self, *argv: object, node: str = "here") -> dict[str, Any]:
        """What the job saw."""
        done = self.site.cli(
            "submit", self.project, "main.py", "--no-venv", "--node", node, "--wait", "--parsable", *argv
        )
        number = done.stdout.split()[0]
        seen: dict[str, Any] = json.loads(self.site.cli("racksack", "logs", number).stdout)
        return seen

    def cli(self, *argv: object, code: int = 0) -> Any:
        return self.site.cli("racksack", "data", *argv, code=code)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Data]:
    there = tmp_path_factory.mktemp("there")
    (there / "a.txt").write_text("lies here")
    site = Site(CONFIG.format(path=there, far=tmp_path_factory.mktemp("far")))
    try:
        site.start()
        yield Data(site)
    finally:
        site.close()


def test_jobs_share_one_copy_that_none_can_change(data: Data) -> None:
    folder = data.folder("prices", "one")
    writes = ["DATA/prices/a.txt", "DATA/prices/new.txt", "inside/prices/a.txt"]
    first = data.run("--data", f"prices={folder}:inside/prices", "-e", "PLACE=inside/prices", "--", *writes)
    assert first["prices"] == "one"
    assert all(first[target] in ("OSError", "PermissionError") for target in writes)
    second = data.run("--data", "prices", "--data", f"other={data.folder('other', 'two')}")
    assert (second["prices"], second["other"]) == ("one", "two")
    third = data.run("--data", "prices:p", "-e", "PLACE=p")
    assert third["place"] == first["place"], "they read the same bytes on disk"
    assert data.cli("where", "prices").stdout == "prices v1: on here\n"


def test_versions_follow_the_content(data: Data) -> None:
    folder = data.folder("weights", "first")
    for _ in range(2):  # the same content is the same version
        assert data.cli("add", "weights", folder).stdout.startswith("weights v1: 2 files")
    (folder / "a.txt").write_text("second")
    assert data.cli("add", "weights", folder).stdout.startswith("weights v2")
    assert data.run("--data", "weights")["weights"] == "second"
    assert data.run("--data", "weights@v1")["weights"] == "first"
    rows = json.loads(data.cli("show", "weights", "--json").stdout)
    assert [(row["version"], row["files"]) for row in rows] == [(2, 2), (1, 2)]


def test_it_is_kept_until_its_owner_removes_it(data: Data) -> None:
    data.cli("add", "doomed", data.folder("doomed", "x"))
    data.cli("pin", "doomed")
    assert "unpin it first" in data.cli("rm", "doomed", code=5).stderr
    data.cli("unpin", "doomed")
    data.cli("verify", "doomed")
    [version] = json.loads(data.cli("show", "doomed", "--json").stdout)
    kept = data.site.spool / "snapshots" / version["digest"]
    os.chmod(kept / "a.txt", 0o644)  # noqa: PTH101
    (kept / "a.txt").write_text("y")
    assert "damaged" in data.cli("verify", "doomed", code=1).stderr
    assert data.cli("rm", "doomed", "--all").stdout == "removed doomed v1\n"
    assert "no data set doomed" in data.cli("show", "doomed", code=3).stderr


def test_data_that_lies_on_nodes(data: Data) -> None:
    assert data.run("--data", "here-already")["here-already"] == "lies here"
    refused = data.site.cli(
        "submit", data.project, "main.py", "--data", "elsewhere", "--node", "here", "--no-venv", code=6
    )
    assert "far" in refused.stderr


def test_a_sweep_reads_data_sets(data: Data) -> None:
    code = "import os\ndef f(x):\n    with open(os.environ['RACKSACK_DATA_DIR'] + '/numbers/a.txt') as file:\n"
    (data.project / "s.py").write_text(code + "        return int(file.read()) * x\n")
    folder = data.folder("numbers", "7")
    data.site.cli(
        "racksack", "sweep", "run", data.project, "s.py:f", "-p", "x=1:3:1", "--data", f"numbers={folder}", "--no-venv",
        "--node", "here", "-y", "--wait",
    )  # fmt: skip
    best = json.loads(data.site.cli("racksack", "sweep", "top", "last", "--json").stdout)
    assert [row["value"] for row in best["rows"]] == [21, 14, 7]


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("no/such", "does not exist"),
        ("../..:x/../..", "outside the project"),
        ("never-added", "no data set never-added"),
        ("prices@vx", "is not a data set"),
        ("a b", "is not a data set"),
    ],
)
def test_words_that_name_no_data_get_a_sentence(data: Data, word: str, says: str) -> None:
    refused = data.site.cli("submit", data.project, "main.py", "--data", word, "--no-venv", code=None)
    assert refused.returncode != 0
    assert says in refused.stderr
    assert "Traceback" not in refused.stderr
