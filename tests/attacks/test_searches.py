"""Searches that learn cost their author and nobody else, and a process of theirs that dies is a sentence."""

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from racksack_controller.sandbox import searches
from racksack_controller.sandbox.searches import Searches, SearchProcess
from racksack_controller.sweeps.search.samplers import SearchError
from tests.sweeps.test_searches import KINDS, bowl, make_drawer, run, sweep


@pytest.fixture
def made() -> Iterator[Searches]:
    all_of_them = Searches()
    yield all_of_them
    all_of_them.close()


@pytest.mark.parametrize("kind", ["tpe", "cmaes", "ga"])
def test_a_search_in_its_process_draws_what_it_draws_here(made: Searches, kind: str) -> None:
    spec = sweep(f"kind: {kind}, count: 30, seed: 5")
    there = made.make(spec, [], [])
    assert isinstance(there, SearchProcess)
    drawn = run(there, 24, bowl)
    assert drawn == run(make_drawer(spec, [], []), 24, bowl)
    assert [type(value) for value in drawn[0].values()] == [int, float]


def test_searches_that_learn_nothing_need_no_process(made: Searches) -> None:
    for kind in set(KINDS) - {"tpe", "cmaes", "ga"}:
        assert not isinstance(made.make(sweep(f"kind: {kind}, count: 30"), [], []), SearchProcess)


def test_more_than_its_share_of_computing_is_a_sentence(made: Searches, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searches, "DRAW_CPU_S", 1.0)
    monkeypatch.setattr(searches, "DRAW_CPU_S_EACH", 0.0)
    wide = "{" + ", ".join(f"p{at}: '0.0:1.0'" for at in range(60)) + "}"
    search = made.make(sweep("kind: tpe, count: 5000", wide), [], [])

    def draw_on() -> None:
        number = 0
        while True:
            batch = search.draw(64)
            search.tell([(number + at, float(at)) for at in range(len(batch))])
            number += len(batch)

    with pytest.raises(SearchError, match="takes more than 1 s of computing; use fewer parameters"):
        draw_on()


def test_a_process_that_is_killed_is_a_sentence(made: Searches) -> None:
    search = made.make(sweep("kind: tpe, count: 30"), [], [])
    assert isinstance(search, SearchProcess)
    os.kill(search._process.pid, signal.SIGKILL)
    with pytest.raises(SearchError, match="the process of the search ended; resume the sweep"):
        search.draw(1)


def test_the_end_of_the_controller_does_not_wait_for_a_search(made: Searches) -> None:
    search = made.make(sweep("kind: tpe, count: 30"), [], [])
    assert isinstance(search, SearchProcess)
    os.kill(search._process.pid, signal.SIGSTOP)  # it would answer after six times its time
    ends: list[str] = []

    def draw() -> None:
        try:
            search.draw(1)
        except SearchError as error:
            ends.append(str(error))

    waiting = threading.Thread(target=draw)
    waiting.start()
    began_s = time.monotonic()
    made.close()
    waiting.join(10)
    assert ends
    assert time.monotonic() - began_s < 10
    with pytest.raises(SearchError, match="the controller is stopping"):
        made.make(sweep("kind: tpe, count: 30"), [], [])
