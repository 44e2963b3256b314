"""A quick pass over everything that reads bytes from outside: the kept inputs, and some damaged ones. `make fuzz` runs
for as long as one likes, with coverage guidance.
"""

import random
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz import one, requests
from tests.fuzz.mutate import CORPUS, damaged, seeds
from tests.fuzz.targets import TARGETS
from tests.sizes import sized

SLOW = {
    "requests": 4,
    "node_stories": 4,
    "archives": 2,
    "environments": 2,
    "entry_files": 2,
}  # so many times fewer inputs


@pytest.fixture(scope="module", autouse=True)
def end_the_controller() -> Iterator[None]:
    yield
    requests.close()


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_kept_and_damaged_inputs(target: str) -> None:
    known = seeds(target)
    for data in known:
        TARGETS[target](data)
    chance = random.Random(zlib.crc32(target.encode()))
    for data in damaged(known, chance, sized(400, 20_000) // SLOW.get(target, 1)):
        try:
            TARGETS[target](data)
        except BaseException:
            print(f"the input: {data!r}")
            raise


def test_each_corpus_belongs_to_a_target_and_is_small() -> None:
    folders = [folder for folder in CORPUS.iterdir() if any(folder.iterdir())]
    assert sorted(folder.name for folder in folders) == sorted(TARGETS)
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < 300_000


def test_a_finding_is_kept_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The part of `make fuzz` that works without atheris, on a target that fails."""
    monkeypatch.setitem(TARGETS, "words", lambda _data: 1 / 0)
    monkeypatch.setitem(sys.modules, "atheris", None)
    monkeypatch.setattr(sys, "argv", ["one", "words", "5", str(tmp_path)])
    assert one.main() == 1
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "findings").iterdir()] == ["words-1"]
