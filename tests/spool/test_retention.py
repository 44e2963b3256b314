"""Old results go by `keep: returns`: which, in what order, and what is left of them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from racksack_controller import retention
from racksack_controller.config.config import Keep, Returns, parse_config
from racksack_controller.core import events as ev
from racksack_controller.housekeeping import Housekeeping
from racksack_controller.retention import NOTE, Result, Sizes, doomed
from racksack_controller.store import Store
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.states import JobState
from tests.core.builders import Bench, job, node

DAY_S = 86_400.0
MIB = 1 << 20


def result(number: int, days: float = 0.0, *, owner: str = "ann", fetched: bool = False, size: int = 10) -> Result:
    return Result(number, owner, 100 * DAY_S - days * DAY_S, fetched, size)


def ids(found: list[Result], **keep: float) -> list[int]:
    return sorted(doomed(found, Returns(**keep), 100 * DAY_S))  # type: ignore[arg-type]


def test_nothing_goes_without_a_limit() -> None:
    assert not Returns().is_limited
    assert ids([result(1, 1000)]) == []


def test_by_age() -> None:
    assert ids([result(1, 91), result(2, 89)], age_s=90 * DAY_S) == [1]


def test_by_size_fetched_ones_first_then_the_oldest() -> None:
    found = [result(1, 30), result(2, 20), result(3, 10, fetched=True), result(4, 5)]
    assert ids(found, size_bytes=30) == [3]
    assert ids(found, size_bytes=29) == [1, 3]
    assert ids(found, size_bytes=0) == [1, 2, 3, 4]
    assert ids(found, size_bytes=40) == []


def test_by_user_nobody_pays_for_another() -> None:
    found = [result(1, 30), result(2, 20), result(3, 99, owner="bob")]
    assert ids(found, per_user_bytes=15) == [1]
    assert ids(found, per_user_bytes=15, size_bytes=10) == [1, 3], "30 bytes in all, 10 of which went"


def test_the_configuration() -> None:
    text = "nodes: {here: {local: {}}}\nkeep: {returns: {age: 90d, size: 200G, per_user: 50G, warn: 1d}, jobs: 10d}\n"
    keep = parse_config(text).keep
    assert keep.returns == Returns(90 * DAY_S, 200 << 30, 50 << 30, DAY_S)
    assert keep.jobs_s == 10 * DAY_S


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[tuple[Spool, Store]]:
    spool = Spool(tmp_path)
    spool.returns.mkdir()
    store = Store(spool.database)
    yield spool, store
    store.close()


async def finish(spool: Spool, store: Store, number: int, *, fetched: bool = False, days: float = 0.0) -> Path:
    bench = Bench(node())
    bench.submit(job(number, submission=f"ann:{number}"))
    bench.happen(ev.CancelRequested(number, "enough", grace_s=0.0, signal="TERM"))
    assert bench.state.jobs.get(number) is None or bench.state.jobs[number].state is JobState.CANCELLED
    await store.save(bench.state.changes())
    ended = time.time() - days * DAY_S
    await store.write(
        lambda c: c.execute("UPDATE jobs SET ended_at_s = ?, fetched = ? WHERE id = ?", (ended, fetched, number))
    )
    folder = spool.returned(number)
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "model.bin").write_bytes(os.urandom(MIB))
    (folder / "result.json").write_text("{}")
    (folder / "deep").chmod(0o500)
    return folder


def housekeeping(spool: Spool, store: Store, returns: Returns) -> Housekeeping:
    return Housekeeping(spool, store, Keep(returns=returns), None, lambda: True, lambda: None, list)


def story(store: Store, number: int) -> list[str]:
    return [
        row[0]
        for row in store.look(lambda c: c.execute("SELECT sentence FROM events WHERE job = ?", (number,)).fetchall())
    ]


async def test_what_was_fetched_goes_at_once_and_the_rest_after_a_warning(spool: tuple[Spool, Store]) -> None:
    place, store = spool
    fetched, other, young = [
        await finish(place, store, 1, fetched=True, days=91),
        await finish(place, store, 2, days=91),
        await finish(place, store, 3, days=1),
    ]
    keeping = housekeeping(place, store, Returns(age_s=90 * DAY_S, warn_s=7 * DAY_S))
    await keeping._remove_results()
    await keeping._remove_results()
    assert not fetched.exists()
    assert (other / "deep" / "model.bin").exists()
    warnings = [line for line in story(store, 2) if "will be removed in 7d" in line]
    assert len(warnings) == 1, "it is said once"
    await store.write(lambda c: c.execute("UPDATE returns_doomed SET at_s = at_s - ?", (8 * DAY_S,)))
    await keeping._remove_results()
    assert sorted(path.name for path in other.iterdir()) == [NOTE, "result.json"]
    assert "older than 90d" in (other / NOTE).read_text()
    assert (young / "deep" / "model.bin").exists()
    await keeping._remove_results()
    assert len([line for line in story(store, 2) if "will be removed" in line]) == 1, "and not again once they are gone"


async def test_who_makes_room_in_time_keeps_the_rest(spool: tuple[Spool, Store]) -> None:
    place, store = spool
    first, second = await finish(place, store, 1, days=2), await finish(place, store, 2, days=1)
    keeping = housekeeping(place, store, Returns(size_bytes=MIB + MIB // 2))
    await keeping._remove_results()
    assert store.look(retention.warned_at_s).keys() == {1}
    (second / "deep").chmod(0o700)
    (second / "deep" / "model.bin").unlink()
    os.utime(second)
    await keeping._remove_results()
    assert store.look(retention.warned_at_s) == {}
    assert (first / "deep" / "model.bin").exists()


def test_a_folder_that_has_not_changed_is_not_walked_again(
    spool: tuple[Spool, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    place, _ = spool
    place.returned(5).mkdir()
    (place.returned(5) / "x").write_bytes(b"x" * 8192)
    (place.returns / ".receiving-7.1").mkdir()
    sizes = Sizes()
    assert sizes.of(place) == {5: 8192}
    monkeypatch.setattr(retention, "_size_of", lambda folder: pytest.fail(f"{folder} was walked through"))
    assert sizes.of(place) == {5: 8192}
