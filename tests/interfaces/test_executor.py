"""`racksack.Executor` beside what concurrent.futures promises."""

from __future__ import annotations

import concurrent.futures
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

import racksack
from racksack.executor.calls import RemoteTraceback
from tests.end_to_end.site import Site


class OddError(Exception):
    pass


def fail(word: str) -> None:
    raise OddError(word)


@pytest.fixture(scope="module")
def executor(site: Site) -> Iterator[racksack.Executor]:
    with racksack.Executor(controller=str(site.spool), cpus=1, ram="200M") as executor:
        yield executor


def test_a_call_comes_back_with_its_value(executor: racksack.Executor) -> None:
    scale = 3
    future = executor.submit(lambda x, *, y: (x * scale + y, os.environ["RACKSACK_JOB_ID"]), 5, y=1)
    assert future.result(60) == (16, str(future.job_id))
    assert str(future.job_id) in repr(future)


def test_map_is_one_job_array_in_order(executor: racksack.Executor) -> None:
    assert list(executor.map(math.pow, [2, 3, 4], [3, 2, 1], timeout=60)) == [8.0, 9.0, 4.0]
    assert list(executor.map(math.sqrt, [])) == []


def test_what_it_raises_is_raised_with_where_that_was(executor: racksack.Executor) -> None:
    with pytest.raises(OddError, match="on purpose") as caught:
        executor.submit(fail, "on purpose").result(60)
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert "in fail" in str(caught.value.__cause__)


def test_a_job_without_a_result_says_how_it_ended(executor: racksack.Executor) -> None:
    with pytest.raises(racksack.RemoteError, match="exit code 3"):
        executor.submit(os._exit, 3).result(60)


def test_values_that_cannot_travel(executor: racksack.Executor) -> None:
    with pytest.raises(RuntimeError, match="cannot be pickled"):
        executor.submit(lambda: (each for each in ())).result(60)
    with pytest.raises(racksack.UsageError, match="cannot be pickled"):
        executor.submit(lambda: sys._getframe(), sys._getframe())


def test_cancel_ends_the_job(executor: racksack.Executor) -> None:
    future = executor.submit(time.sleep, 600)
    assert future.cancel()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(60)


def test_a_future_is_taken_up_again_by_another_process(executor: racksack.Executor, site: Site) -> None:
    future = executor.submit(sum, [1, 2, 3])
    code = f"import racksack; print(racksack.Future.load({future.job_id}, {str(site.spool)!r}).result(60))"
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=90)
    assert again.stdout == "6\n"


def test_after_shutdown_it_takes_nothing(site: Site) -> None:
    executor = racksack.Executor(controller=str(site.spool))
    executor.shutdown()
    with pytest.raises(RuntimeError, match="shutdown"):
        executor.submit(sum, [1])
