"""GNU screen where there is no tmux: the same life."""

from __future__ import annotations

import shutil

import pytest

from tests.agent.processes import wait_until, with_word
from tests.agent.serving import order

pytestmark = pytest.mark.skipif(not shutil.which("screen"), reason="needs screen")


@pytest.fixture
def serve(start_serve):
    return start_serve("--session", "screen")


def test_a_job_in_a_screen(serve, project):
    assert serve.call("hello")["session"] == "screen"
    digest = serve.project(project(job__sh="#!/bin/sh\ntest -t 0 && echo terminal\necho $TERM\n"))
    report = serve.run(order("1.1", digest, "job.sh", interactive=True))
    assert report["outcome"] == "done"
    assert serve.out("1.1") == "terminal\nscreen\n"


def test_many_and_a_cancel(serve, project, token):
    digest = serve.project(project(job__sh=f"#!/bin/sh\nsetsid sleep 600 {token} &\nsleep 600\n"))
    serve.launch(*(order(f"{number}.1", digest, "job.sh", token) for number in range(5)))
    for number in range(5):
        serve.running(f"{number}.1")
    command = serve.call("attach", attempt="3.1")["session"]
    assert command[0] == "env"
    assert command[-2:] == ["-x", "racksack-3-1"]
    for number in range(5):
        serve.call("stop", attempt=f"{number}.1", reason="cancelled", grace_s=1)
    for number in range(5):
        assert serve.ended(f"{number}.1")["outcome"] == "cancelled"
    wait_until(lambda: with_word(token) == [])
