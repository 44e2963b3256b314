"""The runner of a sweep: what points compute comes back once each, and what goes wrong with one costs no other."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.agent.processes import wait_until
from tests.agent.sweeps import Sweep, function, grid

BACKTEST = """
import os, time
def evaluate(stop_loss, take_profit, scale=1):
    return {"sharpe": stop_loss * scale - take_profit / 10, "trades": stop_loss, "pid": os.getpid()}
def number(x):
    return x * 0.5
"""


def test_a_grid_of_a_function(serve, project):
    sweep = Sweep(
        serve, project(backtest__py=BACKTEST), function("backtest.py", "evaluate"),
        grid(stop_loss=list(range(50)), take_profit=[x / 10 for x in range(40)]),
    )  # fmt: skip
    sweep.feed(1, ranges=[[0, 900], [1000, 1100]])
    sweep.feed(2, points=[1999, 950, 1300])
    sweep.feed(2, points=[1999, 950, 1300])  # told twice is done once
    sweep.until(1003)
    sweep.until_all_workers_are_up()  # one of them may do all the points before the other is there
    sweep.serve.call("feed", attempt="1.1", chunks=[{"chunk": 1, "ranges": [[0, 10]]}])
    report = sweep.finish()
    assert report["outcome"] == "done", serve.out("1.1", "stderr.log")
    found = sweep.results()
    assert set(found) == {*range(900), *range(1000, 1100), 1999, 950, 1300}
    for point, metrics in found.items():
        assert metrics["sharpe"] == point // 40 - point % 40 / 10 / 10
        assert metrics["trades"] == point // 40
        assert isinstance(metrics["trades"], int)
    assert len({metrics["pid"] for metrics in found.values()}) <= 2, "one process a slot, imports paid once"
    [ready] = sweep.of_kind("ready")
    assert ready["slots"] == 2
    assert serve.result_bytes["1.1"] == (serve.home / "attempts/1.1/sweep/results.bin").stat().st_size


def test_numbers_ranges_and_given_parameters(serve, project):
    code = "def f(start=0, end=0, x=None, tags=()):\n"
    code += "    return end - start if x is None else {'x': x, 'tags': list(tags)}\n"
    space = {"kind": "range", "first": 10, "last": 35, "step": 10}
    sweep = Sweep(serve, project(f__py=code), function("f.py", "f"), space, metric="size")
    sweep.feed(1, ranges=[[0, 3]])
    sweep.until(3)
    assert sweep.finish()["outcome"] == "done"
    assert sweep.results() == {0: {"size": 10}, 1: {"size": 10}, 2: {"size": 5}}
    given = Sweep(serve, project(f__py=code), function("f.py", "f"), {"kind": "given"}, attempt="2.1")
    given.feed(1, points=[4, 7], values=[{"x": 1.5}, {"x": "a", "tags": ["b"]}])
    given.until(2)
    given.finish()
    assert given.results() == {4: {"x": 1.5, "tags": []}, 7: {"x": "a", "tags": ["b"]}}


FAULTS = """
import ctypes, os, sys, time
def f(x):
    if x == 3: raise ValueError("three is no good")
    if x == 5: ctypes.string_at(0)
    if x == 7:
        while True: pass
    if x == 9: os._exit(4)
    if x == 11: sys.exit("no more")
    if x == 13: return None
    return {"x": x}
"""


def test_what_goes_wrong_with_a_point_costs_no_other(serve, project):
    sweep = Sweep(serve, project(f__py=FAULTS), function("f.py", "f"), grid(x=list(range(40))), point_timeout_s=0.5)
    sweep.feed(1, ranges=[[0, 40]])
    sweep.until(40)
    assert sweep.finish()["outcome"] == "done"
    failures = sweep.failures()
    assert failures == {
        3: ("error", "ValueError: three is no good (f.py:4)"),
        5: ("crash", "its worker ended: killed by SIGSEGV"),
        7: ("timeout", "it reached its time limit of 0.5 s"),
        9: ("crash", "its worker ended: exit code 4"),
        11: ("error", "it called exit(no more) (f.py:9)"),
        13: ("error", "TypeError: it returned NoneType, not a dict of metrics or a number"),
    }
    assert sweep.results() == {x: {"x": x} for x in range(40) if x not in failures}
    assert "ValueError: three is no good" in serve.out("1.1", "stderr.log")


@pytest.mark.parametrize("limit", ["cgroup1", "watch"])
def test_a_point_that_takes_all_memory(start_serve, project, limit):
    serve = start_serve("--limit", limit)
    code = "import time\ndef f(x):\n    if x == 2:\n        a = b'x' * (400 << 20); time.sleep(60)\n"
    code += "    return {'x': x}\n"
    sweep = Sweep(
        serve, project(f__py=code), function("f.py", "f"), grid(x=list(range(6))), ram_bytes=250 << 20, slots=1
    )
    launched = (serve.home / "attempts/1.1/launch.json").read_text()
    if f'"kind": "{limit}"' not in launched:
        pytest.skip(f"this machine has no {limit}")
    sweep.feed(1, ranges=[[0, 6]])
    sweep.until(6)
    sweep.finish()
    assert sweep.failures() == {
        2: ("oom", "its worker was killed for lack of memory: this runner's 250 MiB were used up")
    }
    assert set(sweep.results()) == {0, 1, 3, 4, 5}


def test_a_worker_killed_from_outside(serve, project):
    code = "import os, time\ndef f(x):\n    if x == 1:\n        open('begun', 'w'); time.sleep(60)\n"
    code += "    return os.getpid()\n"
    sweep = Sweep(serve, project(f__py=code), function("f.py", "f"), grid(x=[0, 1, 2]), slots=1)
    sweep.feed(1, ranges=[[0, 3]])
    sweep.until(1)
    wait_until((serve.home / "attempts" / "1.1" / "work" / "begun").exists)
    os.kill(sweep.results()[0]["value"], signal.SIGKILL)
    sweep.until(3)
    sweep.finish()
    assert sweep.failures() == {1: ("crash", "its worker ended: killed by SIGKILL")}


def test_a_target_that_cannot_be_imported(serve, project):
    sweep = Sweep(serve, project(f__py="import nothing_like_this\n"), function("f.py", "f"), grid(x=[1]))
    report = serve.ended("1.1")
    assert report["outcome"] == "failed"
    words = "f.py could not be imported: ModuleNotFoundError: No module named 'nothing_like_this' (f.py:1)"
    assert report["reason"] == words
    sweep.pull()
    assert sweep.frames == []


def test_unstarted_points_are_given_back(serve, project):
    code = "import os, time\ndef f(x):\n    open(f'begun-{x}', 'w')\n"
    code += "    while not os.path.exists('go'): time.sleep(0.01)\n    return x\n"
    sweep = Sweep(serve, project(f__py=code), function("f.py", "f"), grid(x=list(range(100))))
    sweep.feed(1, ranges=[[0, 50]])
    sweep.feed(2, ranges=[[50, 100]])
    work = serve.home / "attempts/1.1/work"
    wait_until(lambda: len(list(work.glob("begun-*"))) == 2)
    serve.call("control", attempt="1.1", back=[1, 2])

    def given_back() -> bool:
        sweep.pull()
        return len(sweep.of_kind("back")) == 2

    wait_until(given_back)
    back = {header["c"]: header["p"] for header in sweep.of_kind("back")}
    (work / "go").touch()
    sweep.until(2)
    sweep.finish()
    assert back == {1: [[2, 50]], 2: [[50, 100]]}
    assert set(sweep.results()) == {0, 1}


PROGRAM = """
import json, os, sys
name, lr = sys.argv[1], dict(zip(sys.argv[2::2], sys.argv[3::2]))
print("some words")
if name == "file":
    json.dump({"lr": float(lr["--lr"])}, open("metrics.json", "w"))
elif name == "line":
    print(json.dumps({"lr": float(lr["--lr"]), "data": open("data.txt").read()}))
elif name == "bad":
    print("it is bad", file=sys.stderr); sys.exit(3)
elif name == "killed":
    os.kill(os.getpid(), 11)
"""


def test_programs_with_metrics_from_a_file_or_the_last_line(serve, project):
    target = {"kind": "program", "argv": ["train.py", "{how}"]}
    space = grid(how=["file", "line", "bad", "killed", "silent"], lr=[0.1, 1e-05])
    folder = project(train__py=PROGRAM, data__txt="x")
    sweep = Sweep(serve, folder, target, space)
    sweep.feed(1, ranges=[[0, 10]])
    sweep.until(10)
    sweep.finish()
    # Points that were one batch have a gap where only others have a metric.
    told = {
        point: {name: one for name, one in row.items() if one is not None} for point, row in sweep.results().items()
    }
    assert told == {
        0: {"lr": 0.1}, 1: {"lr": 1e-05}, 2: {"lr": 0.1, "data": "x"}, 3: {"lr": 1e-05, "data": "x"}
    }  # fmt: skip
    failures = sweep.failures()
    assert failures[4] == ("error", "exit code 3: it is bad")
    assert failures[6] == ("crash", "killed by SIGSEGV")
    assert failures[8][1].startswith("it wrote no metrics")
    assert "some words" in serve.out("1.1")


def test_a_program_that_hangs_leaves_nothing(serve, project, token):
    target = {"kind": "program", "argv": ["hang.sh", token]}
    sweep = Sweep(
        serve, project(hang__sh="#!/bin/sh\nsetsid sleep 600 &\nsleep 600\n"), target, grid(x=[1]), point_timeout_s=0.4
    )
    sweep.feed(1, ranges=[[0, 1]])
    sweep.until(1)
    assert sweep.failures() == {0: ("timeout", "it reached its time limit of 0.4 s")}
    sweep.finish()
    assert not any(token.encode() in _command(entry) for entry in Path("/proc").glob("[0-9]*"))


def _command(entry: Path) -> bytes:
    try:
        return (entry / "cmdline").read_bytes()
    except OSError:
        return b""


def test_a_list_of_scripts(serve, project):
    folder = project(one__sh='#!/bin/sh\necho "{\\"args\\": \\"$*\\"}"\n')
    sweep = Sweep(serve, folder, {"kind": "script"}, {"kind": "given"})
    sweep.feed(1, points=[0, 1], values=[{"script": "one.sh", "args": ["a", "b c"]}, {"script": "one.sh"}])
    sweep.until(2)
    sweep.finish()
    assert sweep.results() == {0: {"args": "a b c"}, 1: {"args": ""}}


def test_each_slot_has_one_gpu_and_its_own_mask(serve, project):
    code = (
        "import os, time\nGPU = os.environ.get('CUDA_VISIBLE_DEVICES'), os.environ.get('ROCR_VISIBLE_DEVICES')\n"
        "def f(x):\n    time.sleep(0.02)\n    return {'cuda': GPU[0], 'rocr': GPU[1], 'node': os.environ['HSA_X']}\n"
    )
    gpus = [{"uuid": "GPU-aa", "index": 2, "vendor": "nvidia"}, {"uuid": "GPU-bb", "index": 0, "vendor": "amd"}]
    sweep = Sweep(
        serve, project(f__py=code), function("f.py", "f"), grid(x=list(range(20))), gpus=gpus, node_env={"HSA_X": "1"}
    )
    sweep.feed(1, ranges=[[0, 20]])
    sweep.until(20)
    sweep.finish()
    seen = {(row["cuda"], row["rocr"], row["node"]) for row in sweep.results().values()}
    assert seen == {("GPU-aa", "", "1"), (None, "GPU-bb", "1")}


def test_entries_of_a_list_run_on_the_gpu_that_they_name_and_none_waits_for_one_that_is_not_held(serve, project):
    folder = project(one__sh='#!/bin/sh\nsleep 0.05\necho "{\\"gpu\\": $RACKSACK_GPUS}"\n')
    gpus = [{"uuid": "GPU-aa", "index": 2, "vendor": "nvidia"}, {"uuid": "GPU-bb", "index": 0, "vendor": "amd"}]
    named = [0, 2] * 10 + [7, None]
    sweep = Sweep(serve, folder, {"kind": "script"}, {"kind": "given"}, gpus=gpus)
    sweep.until_all_workers_are_up()
    values = [{"script": "one.sh"} for _ in named]
    sweep.feed(1, points=list(range(len(named))), values=values, devices=named)
    sweep.until(len(named))
    sweep.finish()
    on_its_own = sum(row["gpu"] == named[point] for point, row in sweep.results().items())
    assert on_its_own >= 16, "at the end, an idle worker takes what names another device"


def test_a_second_run_has_other_variables_and_arguments(serve, project):
    code = "import os\nPERIOD = os.environ.get('PERIOD', 'in')\n"
    code += "def f(x, until=0):\n    return {'x': x, 'until': until, 'period': PERIOD}\n"
    runs = [{"env": {}, "fixed": {}}, {"env": {"PERIOD": "out"}, "fixed": {"until": 2026}}]
    sweep = Sweep(serve, project(f__py=code), function("f.py", "f"), grid(x=[1, 2, 3]), runs=runs)
    sweep.feed(1, ranges=[[0, 2]])
    sweep.feed(2, ranges=[[2, 3]], run=1)
    sweep.until(3)
    sweep.finish()
    assert sweep.results()[0] == {"x": 1, "until": 0, "period": "in"}
    assert sweep.results()[2] == {"x": 3, "until": 2026, "period": "out"}


def test_what_points_print_is_bounded(serve, project):
    code = "def f(x):\n    print('y' * 100_000)\n    return x\n"
    sweep = Sweep(serve, project(f__py=code), function("f.py", "f"), grid(x=list(range(200))))
    sweep.feed(1, ranges=[[0, 200]])
    sweep.until(200)
    sweep.finish()
    log = serve.out("1.1")
    assert (16 << 20) <= len(log) < (17 << 20)
    assert "the log of this runner is full" in log[-200:]


def test_a_stop_in_the_middle_keeps_what_was_told(serve, project):
    code = "import time\ndef f(x):\n    time.sleep(60 if x == 3 else 0)\n    return x\n"
    sweep = Sweep(serve, project(f__py=code), function("f.py", "f"), grid(x=list(range(9))), slots=1)
    sweep.feed(1, ranges=[[0, 9]])
    sweep.until(3)
    serve.call("stop", attempt="1.1", reason="cancelled", grace_s=5)
    assert serve.ended("1.1")["outcome"] == "cancelled"
    sweep.pull()
    assert set(sweep.results()) == {0, 1, 2}
    assert sweep.failures() == {}
