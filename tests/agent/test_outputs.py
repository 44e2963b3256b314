"""What comes back of a job, what cannot, and what stays on the node until somebody asks for it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from racksack_agent.home import Home
from racksack_agent.serve import kept
from tests.agent.processes import listed, wait_until
from tests.agent.serving import PACKAGE, Refused, Serve, order

NOBODY = 65534
SMALL = 10 << 20


def run(serve: Serve, project: Callable[..., Path], script: str, attempt: str = "1.1", **more: Any) -> dict[str, Any]:
    """Run a shell script in a project that has a file `data`, `o` being the return folder."""
    digest = serve.project(project(job__sh="#!/bin/sh\no=$RACKSACK_RETURN_DIR\n" + script + "\n", data="as it was\n"))
    return serve.run(order(attempt, digest, "job.sh", **more))


def out(serve: Serve, attempt: str = "1.1") -> dict[str, str]:
    """What came: content by path, a link's target with an arrow, a folder as a slash; the logs left out."""
    root = serve.home / "attempts" / attempt / "out"
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_dir():
            if not listed(path):
                found[name] = "/"
        elif name not in ("stdout.log", "stderr.log", "env.log", "times.log"):
            found[name] = path.read_text() if path.stat().st_size < 100 else f"{path.stat().st_size} bytes"
    return found


def left(report: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one["path"], one["why"]) for one in report["left"]]


def test_new_and_changed_files_of_the_working_folder_come_if_they_are_small(serve, project):
    script = f"""
mkdir -p figures __pycache__ .venv/bin venv/lib .git a/.pytest_cache empty
echo plot > figures/waves.png; echo more >> data; echo x > __pycache__/m.pyc; echo x > .git/config; echo x > core.123
touch venv/pyvenv.cfg venv/lib/x .venv/bin/y a/.pytest_cache/z job.sh; echo b > a/b.pyc
head -c {SMALL + 1} /dev/zero > model.pt; cp data data.new; mv data.new data; ln -s figures/waves.png latest
mkfifo figures/pipe
"""
    report = run(serve, project, script)
    assert report["outcome"] == "done"
    assert out(serve) == {
        "figures/waves.png": "plot\n",
        "data": "as it was\nmore\n",
        "latest": "-> figures/waves.png",
    }
    assert left(report) == [("model.pt", "new")]
    assert (report["left_files"], report["left_bytes"], report["left_for_s"]) == (1, SMALL + 1, 86400.0)
    assert report["dropped"] == []


def test_what_was_only_read_or_touched_is_not_changed(serve, project):
    report = run(serve, project, "cat data; touch data; chmod 644 data; cp -p data copy; mv copy data")
    assert out(serve) == {}
    assert report["left_files"] == 0


@pytest.mark.parametrize(("new_files", "came"), [("none", set()), ("all", {"large", "small"})])
def test_new_files_as_the_job_wants_them(serve, project, new_files, came):
    report = run(serve, project, f"echo s > small; head -c {SMALL + 1} /dev/zero > large", new_files=new_files)
    assert set(out(serve)) == came
    assert report["left_files"] == 0


def test_many_small_files_come_up_to_a_number_and_a_size(serve, project):
    report = run(serve, project, "i=0; while [ $i -lt 1005 ]; do : > f$i; i=$((i+1)); done")
    assert report["output_files"] == 1002, "with the logs"
    assert report["left_files"] == 5
    script = f"for i in 1 2 3 4 5 6 7 8 9 10 11; do head -c {SMALL} /dev/zero > g$i; done"
    report = run(serve, project, script, "2.1")
    assert (report["output_bytes"], report["left_files"]) == (10 * SMALL, 1)


def test_above_the_limit_the_small_ones_come_and_the_rest_stays(serve, project):
    script = """
echo log; echo 1,2 > $o/metrics.csv; head -c 600000 /dev/zero > $o/model.bin; mkdir $o/ckpt
head -c 500000 /dev/zero > $o/ckpt/1; head -c 300000 /dev/zero > asked.bin; echo s > new"""
    report = run(serve, project, script, max_output_bytes=1 << 20, outputs=["asked.bin"])
    assert report["outcome"] == "done"
    assert report["reason"] == "1 file did not fit into max_output (1M) and stayed on the node"
    assert set(out(serve)) == {"metrics.csv", "ckpt/1", "asked.bin", "new"}
    assert left(report) == [("model.bin", "max_output")]
    assert serve.out("1.1") == "log\n"
    report = run(serve, project, "head -c 600000 /dev/zero > $o/big; exit 4", "2.1", max_output_bytes=1000)
    assert (report["outcome"], report["exit_code"]) == ("failed", 4)
    assert report["reason"].startswith("exit code 4; 1 file did not fit")


def test_a_log_that_is_too_large_by_itself_is_cut_and_stays_whole_on_the_node(serve, project):
    report = run(serve, project, "head -c 3000000 /dev/zero; echo 1 > $o/metrics.csv", max_output_bytes=1 << 20)
    assert report["outcome"] == "done"
    assert report["output_bytes"] <= 1 << 20
    assert serve.out("1.1").endswith("[racksack: the rest was cut, the outputs were too large]\n")
    assert set(left(report)) == {("stdout.log", "max_output"), ("metrics.csv", "max_output")}
    assert (serve.home / "attempts/1.1/left/stdout.log").stat().st_size == 3000000


def test_links_and_folders_come_as_they_were(serve, project):
    script = """
mkdir -p 7; echo 7 > 7/best.pt; ln -s 7 last
mkdir -p runs/a runs/empty deep/er; echo m > runs/a/m.txt; ln -s a runs/latest; ln -s ../runs/a deep/up
echo w > $o/w.bin; ln -s $o/w.bin $o/best.bin; ln -s $PWD/runs/a/m.txt $o/metrics.txt; ln -s "$(pwd -P)/data" $o/input
mkdir $o/none; ln -s ../../etc/passwd deep/leak; ln -s /etc/hosts $o/hosts; ln -s nowhere $o/dangling
ln -s $o/no $o/gone; mkdir -p cache/__pycache__; echo 1 > cache/__pycache__/x.pyc; ln -s $PWD/cache $o/cache"""
    report = run(serve, project, script, outputs=["runs", "deep/**", "last/*", "7"])
    assert report["outcome"] == "done", report["reason"]
    assert out(serve) == {
        "runs/a/m.txt": "m\n",
        "runs/latest": "-> a",
        "runs/empty": "/",
        "deep/up": "-> ../runs/a",
        "deep/er": "/",
        "7/best.pt": "7\n",
        "last/best.pt": "7\n",
        "w.bin": "w\n",
        "best.bin": "-> w.bin",
        "metrics.txt": "-> runs/a/m.txt",
        "input": "as it was\n",
        "none": "/",
        "dangling": "-> nowhere",
    }
    assert sorted(report["dropped"]) == [
        "cache: a link to cache, which is not among the results",
        "deep/leak: a link that leads out of the return folder (../../etc/passwd)",
        "gone: a link to no, which does not exist",
        "hosts: a link that leads out of the return folder (/etc/hosts)",
    ]


def test_no_output_takes_the_place_of_what_the_program_printed(serve, project):
    """Neither by a pattern, nor written, renamed or linked into the return folder, nor by removing the log."""
    script = """
echo printed; echo a file of the project > stdout.log; echo own > $o/x; mkdir d; echo n > d/x; echo w > x
echo err >&2; echo mine > $o/own.log; mv $o/own.log $o/stderr.log; mkdir -p $o/sub; echo s > $o/sub/stdout.log"""
    report = run(serve, project, script, outputs=["*.log", "x"])
    assert (serve.out("1.1"), serve.out("1.1", "stderr.log")) == ("printed\n", "err\n")
    assert out(serve) == {
        "work/stdout.log": "a file of the project\n",
        "work/stderr.log": "mine\n",
        "x": "own\n",
        "work/x": "w\n",
        "d/x": "n\n",
        "sub/stdout.log": "s\n",
    }
    assert report["output_files"] == 8
    report = run(serve, project, "echo 1; rm $o/stdout.log; echo 2", "2.1")
    assert serve.out("2.1") == "1\n2\n"
    report = run(serve, project, "echo 1; ln -sf /etc/passwd $o/stdout.log", "3.1")
    assert serve.out("3.1") == "1\n"
    assert report["dropped"] == ["work/stdout.log: a link that leads out of the return folder (/etc/passwd)"]


def test_a_pattern_that_matches_nothing_is_named(serve, project):
    report = run(serve, project, "echo 1 > x", outputs=["checkpoints/*.pt", "x", "../y"])
    assert report["outcome"] == "done"
    assert report["dropped"] == ["checkpoints/*.pt: nothing matched", "../y: outputs are patterns inside the project"]


def test_a_supervisor_that_has_to_gather_again_loses_nothing(serve, project):
    """What an earlier one moved is where it belongs already."""
    run(serve, project, f"echo p > p; head -c {SMALL + 1} /dev/zero > q; echo 1 > $o/r", outputs=["p"])
    folder = serve.home / "attempts/1.1"
    before = out(serve)
    (folder / "exit.json").unlink()
    serve.close()
    again = Serve(serve.home)
    report = again.ended("1.1")
    assert (report["outcome"], out(serve)) == ("done", before)
    assert (folder / "left/q").exists()
    again.close()


def test_what_stayed_can_be_asked_for_until_its_time_is_over(serve, project, home):
    script = f"mkdir -p ckpt; for i in 1 2 3; do head -c {SMALL + 1} /dev/zero > ckpt/$i.pt; done; echo s > small"
    run(serve, project, script, keep_left_s=600)
    for removed in (False, True):
        if removed:
            serve.call("remove", attempts=["1.1"])
        found = serve.call("bring", attempt="1.1", patterns=["ckpt/[12].pt", "nothing"])
        assert (found["files"], found["bytes"]) == (2, 2 * SMALL + 2)
        assert found["missing"] == ["nothing: nothing matched"]
        assert sorted(listed(Path(found["path"]) / "ckpt")) == ["1.pt", "2.pt"]
        serve.call("brought", attempt="1.1")
        assert not Path(found["path"]).exists()
    record = home / "kept/1.1.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "until_s": time.time() - 1}))
    kept.prune(Home(str(home)))
    assert listed(home / "kept") == []
    with pytest.raises(Refused, match="is on this node any more"):
        serve.call("bring", attempt="1.1", patterns=["*"])


def test_what_is_kept_has_a_size_and_the_oldest_goes_first(serve, project, home):
    digest = serve.project(project(job__sh=f"#!/bin/sh\nhead -c {SMALL + 1} /dev/zero > model\n"))
    for attempt in ("1.1", "2.1", "3.1"):
        serve.run(order(attempt, digest, "job.sh", keep_left_bytes=2 * SMALL + 2))
        serve.call("remove", attempts=[attempt])
    kept.prune(Home(str(home)))
    assert {name for name in listed(home / "kept") if not name.endswith(".json")} == {"2.1", "3.1"}
    serve.run(order("4.1", digest, "job.sh", keep_left_s=0))
    serve.call("remove", attempts=["4.1"])
    assert not (home / "kept/4.1").exists()


@pytest.fixture
def unprivileged() -> Iterator[Serve]:
    """A `serve` of an account without rights, where we are root and can make files that it may not read."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to make files of another account")
    root = Path(tempfile.mkdtemp(prefix="racksack-test-"))
    shutil.copytree(PACKAGE, root / "racksack_agent", ignore=shutil.ignore_patterns("__pycache__"))
    home = root / "home"
    home.mkdir()
    root.chmod(0o755)
    os.chown(home, NOBODY, NOBODY)
    serve = Serve(home, user=NOBODY, package=root / "racksack_agent", env={"HOME": str(home), "TMPDIR": "/tmp"})
    yield serve
    for report in serve.call("reports"):
        serve.call("stop", attempt=report["attempt"], reason="cancelled", grace_s=0)
    serve.close()
    subprocess.run(["tmux", "-S", next(Path("/tmp/racksack-65534").glob("*.tmux")), "kill-server"], check=False)
    shutil.rmtree(root)
    shutil.rmtree("/tmp/racksack-65534", ignore_errors=True)


def test_own_files_are_opened_whatever_their_modes(unprivileged, project):
    script = """
mkdir $o/closed $o/no-x hidden; echo a > $o/closed/a; echo b > $o/no-x/b; echo k > $o/key; echo h > hidden/h; echo m > m
chmod 0 $o/closed $o/key hidden m; chmod 600 $o/no-x; chmod 0 $o"""
    report = run(unprivileged, project, script, outputs=["hidden", "m"])
    assert (report["outcome"], report["dropped"]) == ("done", []), report["reason"]
    assert out(unprivileged) == {
        "closed/a": "a\n", "no-x/b": "b\n", "key": "k\n", "hidden/h": "h\n", "m": "m\n",
    }  # fmt: skip
    archive = unprivileged.call("fetch", attempts=["1.1"], limit_bytes=1 << 20)
    assert archive["1.1"], "it can be packed"


def test_files_of_another_account_come_if_they_can_be_read_and_are_named_if_not(unprivileged, project):
    """As a container leaves them that runs as root: the rest comes, and nothing waits for them."""
    digest = unprivileged.project(
        project(job__sh="#!/bin/sh\ntouch $RACKSACK_TMP/up\nuntil [ -e $RACKSACK_TMP/go ]; do sleep 0.05; done\n")
    )
    unprivileged.launch(order("1.1", digest, "job.sh", outputs=["results"]))
    folder = unprivileged.home / "attempts/1.1"
    wait_until((folder / "tmp/up").exists)
    for path, mode in {
        "out/good.txt": 0o644, "out/secret": 0o600, "out/open/a": 0o644, "out/open/b": 0o600, "out/shut/c": 0o644,
        "out/fine/d": 0o644, "work/results/r": 0o644, "work/results/s": 0o600, "work/plot": 0o600,
    }.items():  # fmt: skip
        file = folder / path
        file.parent.mkdir(exist_ok=True)
        file.write_text(file.name)
        file.chmod(mode)
    (folder / "out/shut").chmod(0o700)
    (folder / "tmp/go").touch()
    report = unprivileged.ended("1.1")
    assert report["outcome"] == "done", report["reason"]
    assert out(unprivileged) == {"good.txt": "good.txt", "open/a": "a", "fine/d": "d", "results/r": "r"}
    whose = "it belongs to root, and the account that ran the job may not read it"
    names = ("secret", "open/b", "shut", "results/s", "plot")
    assert sorted(report["dropped"]) == sorted(f"{name}: {whose}" for name in names)
    assert (report["output_files"], report["output_bytes"]) == (6, len("good.txtadr"))
    assert unprivileged.call("fetch", attempts=["1.1"], limit_bytes=1 << 20)["1.1"], "it can be packed"
