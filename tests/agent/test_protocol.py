"""The conversation: requests good and bad, several `serve` on one home, and their deaths."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest

from racksack_jobspecs.snapshot import digest_of, manifest_of
from tests.agent.processes import listed, wait_until
from tests.agent.serving import PACKAGE, PYTHON, Refused, Serve, order, pack


def test_hello(serve, home):
    hello = serve.call("hello")
    assert hello["home"] == str(home)
    assert hello["session"] in ("tmux", "screen")
    assert hello["reports"] == []
    assert set(hello) >= {"agent", "boot_id", "hostname", "python", "uv", "rsync", "clock_s"}


def test_probe(serve):
    inventory = serve.call("probe")
    assert inventory["cpus"] == len(os.sched_getaffinity(0))
    assert inventory["ram_bytes"] > 0
    assert inventory["disk_bytes"] > 0
    assert isinstance(inventory["gpus"], list)


@pytest.mark.parametrize(
    "line", [b"{", b"[]", b'"text"', b"\xff\xfe", b"[" * 100_000, b"{}", b'{"op": 1', b"null", b'{"id": 1}']
)
def test_a_line_that_is_no_request_is_answered_and_forgotten(serve, line):
    serve.send(line + b"\n")
    reply = serve.reply(None)
    assert (reply["ok"], reply["kind"]) == (False, "bad_request")
    assert serve.call("has", digests=[]) == []


@pytest.mark.parametrize(
    ("op", "arguments"),
    [
        ("fly", {}), (["launch"], {}), ("has", {}), ("has", {"digests": [1]}), ("has", {"digests": ["short"]}),
        ("has", {"digests": ["../" * 21 + "x"]}), ("launch", {}), ("launch", {"orders": {}}),
        ("tail", {"attempt": "../../etc.1", "stream": "stdout", "offset": 0, "limit": 1}),
        ("tail", {"attempt": "1.1", "stream": "../launch", "offset": 0, "limit": 1}),
        ("fetch", {"attempts": ["../x"], "limit_bytes": 1}), ("fetch", {"attempts": []}),
        ("remove", {"attempts": [".."]}), ("stop", {"attempt": None}),
        ("adopt", {"digest": "0" * 64, "incoming": ".."}),
        ("adopt", {"digest": "0" * 64, "incoming": "a/b"}), ("put", {"digest": "0" * 64, "tar_b64": "!"}),
        ("put", {"digest": "0" * 64, "tar_b64": base64.b64encode(b"no tar").decode()}), ("attach", {"attempt": 1}),
    ],
)  # fmt: skip
def test_a_bad_request_gets_its_sentence(serve, op, arguments):
    with pytest.raises(Refused) as refused:
        serve.call(op, **arguments)
    assert refused.value.kind == "bad_request"
    assert len(str(refused.value)) > 10


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"attempt": "x"}, "not the name of an attempt"), ({"attempt": "../1.1"}, "not the name of an attempt"),
        ({"digest": "zz"}, "not a digest"), ({"entrypoint": ""}, "entrypoint is empty"), ({"args": "text"},
        "args is str"),
        ({"args": ["a\0b"]}, "NUL"), ({"env": {"A": 1}}, "cannot be an environment variable"),
        ({"env": {"A=B": "x"}}, "cannot be an environment variable"), ({"cpus": "2"}, "cpus is str"),
        ({"environment": {"kind": "conda"}}, "'conda', 'no' is not a way"), ({"gpus": [1]}, "a GPU must be an object"),
        ({"ram_bytes": True}, "ram_bytes is bool"),
    ],
)  # fmt: skip
def test_a_bad_order_is_refused_alone(serve, project, home, wrong, words):
    digest = serve.project(project(job__sh="#!/bin/sh\n"))
    replies = serve.call("launch", orders=[{**order("1.1", digest, "job.sh"), **wrong}, order("2.1", digest, "job.sh")])
    assert [reply["ok"] for reply in replies] == [False, True]
    assert words in replies[0]["error"]
    assert replies[0]["kind"] == "bad_request"
    assert serve.ended("2.1")["outcome"] == "done"
    assert listed(home / "attempts") == ["2.1"]


def test_an_order_without_its_content(serve):
    reply = serve.call("launch", orders=[order("1.1", "0" * 64, "job.sh")])[0]
    assert (reply["ok"], reply["kind"]) == (False, "no_snapshot")


def test_content_is_believed_only_by_its_digest(serve, project, home):
    folder = project(job__sh="#!/bin/sh\n")
    with pytest.raises(Refused) as refused:
        serve.call("put", digest="0" * 64, tar_b64=pack(folder))
    assert refused.value.kind == "digest"
    assert listed(home / "snapshots") == []
    assert [name for name in listed(home / "incoming") if "put" in name] == []


def archive_of(*members: tuple[tarfile.TarInfo, bytes]) -> str:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for member, data in members:
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return base64.b64encode(stream.getvalue()).decode()


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    "members",
    [
        [(member("../evil"), b"x")],
        [(member("/tmp/racksack-evil"), b"x")],
        [(member("a/../../evil"), b"x")],
        [(member("pipe", tarfile.FIFOTYPE), b"")],
        [(member("hard", tarfile.LNKTYPE, "/etc/passwd"), b"")],
        [(member("twice"), b"1"), (member("twice"), b"2")],
    ],
)
def test_an_archive_that_leads_out_is_refused(serve, home, members):
    with pytest.raises(Refused) as refused:
        serve.call("put", digest="0" * 64, tar_b64=archive_of(*members))
    assert refused.value.kind == "bad_request"
    assert not (home / "evil").exists()
    assert not (home / "incoming" / "evil").exists()
    assert not Path("/tmp/racksack-evil").exists()


def test_nothing_is_written_through_a_link(serve, home, tmp_path):
    members = [(member("way", tarfile.SYMTYPE, str(tmp_path)), b""), (member("way/evil"), b"x")]
    with pytest.raises(Refused):
        serve.call("put", digest="0" * 64, tar_b64=archive_of(*members))
    assert not (tmp_path / "evil").exists()


def bring(home, folder, name):
    target = home / "incoming" / name
    target.mkdir(parents=True)
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
        (target / path.name).chmod(path.stat().st_mode)


def test_content_that_rsync_brought(serve, project, home):
    folder = project(job__sh="#!/bin/sh\necho adopted\n", data__txt="x" * 100_000)
    digest = digest_of(manifest_of(folder))
    with pytest.raises(Refused) as refused:
        serve.call("adopt", digest=digest, incoming="up")
    assert refused.value.kind == "missing"
    bring(home, folder, "up")
    (home / "incoming/up/data.txt").write_text("torn")
    with pytest.raises(Refused) as refused:
        serve.call("adopt", digest=digest, incoming="up")
    assert refused.value.kind == "digest"
    assert (home / "incoming/up").is_dir(), "it stays, to be mended"
    (home / "incoming/up/data.txt").write_text("x" * 100_000)
    for _ in range(2):
        serve.call("adopt", digest=digest, incoming="up")
    assert serve.call("has", digests=[digest, "0" * 64]) == [digest]
    assert serve.run(order("1.1", digest, "job.sh"))["outcome"] == "done"


def test_the_same_content_from_many_sides_at_once(start_serve, project, home):
    serves = [start_serve(), start_serve()]
    folder = project(job__sh="#!/bin/sh\n", data__txt="x" * 200_000)
    digest = digest_of(manifest_of(folder))
    bring(home, folder, "up")
    calls = [lambda s=s: s.call("adopt", digest=digest, incoming="up") for s in serves]
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for serve in serves:
        serve.call("put", digest=digest, tar_b64=pack(folder))
        assert serve.call("has", digests=[digest]) == [digest]
    assert listed(home / "incoming") == [".lock"]


def test_the_death_of_serve_disturbs_no_job(start_serve, project):
    first = start_serve()
    digest = first.project(
        project(job__sh="#!/bin/sh\necho began\nuntil [ -e $RACKSACK_TMP/go ]; do sleep 0.05; done\n")
    )
    first.launch(order("1.1", digest, "job.sh"), order("2.1", digest, "job.sh"))
    pid = first.running("1.1")["node_pid"]
    first.running("2.1")
    first.kill()
    (first.home / "attempts/1.1/tmp/go").touch()  # it ends while nobody looks
    wait_until(lambda: (first.home / "attempts/1.1/exit.json").exists())
    second = start_serve()
    reports = {report["attempt"]: report for report in second.call("hello")["reports"]}
    assert (reports["1.1"]["outcome"], reports["1.1"]["node_pid"]) == ("done", pid)
    assert reports["2.1"]["state"] == "running"
    (first.home / "attempts/2.1/tmp/go").touch()
    assert second.ended("2.1")["outcome"] == "done"
    assert [name for name in listed(first.home / "run") if name.startswith(f"{first.pid}-")] == [], "its pipe is gone"


def test_two_serve_on_one_home_both_see_everything(start_serve, project):
    one, two = start_serve(), start_serve()
    digest = one.project(project(job__sh="#!/bin/sh\nexec sleep 600\n"))
    replies: list[dict] = []
    threads = [
        threading.Thread(target=lambda s=s: replies.extend(s.call("launch", orders=[order("1.1", digest, "job.sh")])))
        for s in (one, two)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [reply["ok"] for reply in replies] == [True, True]
    assert one.running("1.1")["node_pid"] == two.running("1.1")["node_pid"]
    two.call("stop", attempt="1.1", reason="cancelled", grace_s=1)
    assert one.ended("1.1") == two.ended("1.1")
    one.call("remove", attempts=["1.1"])
    assert two.call("reports") == []
    two.call("remove", attempts=["1.1"])


def test_cores_are_shared_out_by_both(start_serve, project):
    one, two = start_serve(), start_serve()
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two cores")
    digest = one.project(project(job__sh="#!/bin/sh\nexec sleep 600\n"))
    one.launch(order("1.1", digest, "job.sh", cpus=1))
    two.launch(order("2.1", digest, "job.sh", cpus=1))
    assert one.running("1.1")["cpu_ids"] != one.running("2.1")["cpu_ids"]


def test_serve_ends_with_its_input_and_says_nothing(home):
    serve = Serve(home)
    serve.call("hello")
    serve.close()
    assert listed(home / "run") == []


def test_serve_ends_when_nobody_reads_its_answers(home):
    reader, writer = os.pipe()
    argv = [PYTHON, "-I", "-S", str(PACKAGE / "__main__.py"), "serve", "--home", str(home)]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=writer)
    os.close(writer)
    os.close(reader)
    process.stdin.write(b'{"id": 1, "op": "hello"}\n')
    process.stdin.flush()
    assert process.wait(20) == 0


def test_attaching_shows_the_job_live(serve, project):
    digest = serve.project(project(job__sh="#!/bin/sh\necho visible in the pane\nread line\necho got $line\n"))
    serve.launch(order("1.1", digest, "job.sh", interactive=True))
    serve.running("1.1")
    attach = serve.call("attach", attempt="1.1")
    if attach["session"][0].endswith("tmux"):
        tmux = attach["session"][: attach["session"].index("attach-session")]
        capture = [*tmux, "capture-pane", "-p", "-t", attach["session"][-1] + ":"]
        wait_until(lambda: "visible in the pane" in os.popen(" ".join(capture)).read())
        assert attach["view"] == [*tmux, "attach-session", "-r", "-t", attach["session"][-1]]
        os.spawnvp(os.P_WAIT, tmux[0], [*tmux, "send-keys", "-t", attach["session"][-1] + ":", "typed", "Enter"])
        assert serve.ended("1.1")["outcome"] == "done"
        assert "got typed" in serve.out("1.1")
    with pytest.raises(Refused):
        serve.call("attach", attempt="2.1")


def test_the_users_secrets_are_for_the_user_alone(serve, project, home):
    digest = serve.project(project(job__sh="#!/bin/sh\n"))
    serve.run(order("1.1", digest, "job.sh", env={"API_KEY": "secret"}))
    for path in (home / "attempts/1.1").iterdir():
        if path.is_file() and b"secret" in path.read_bytes():
            assert path.stat().st_mode & 0o077 == 0
    assert home.stat().st_mode & 0o077 == 0
    assert "secret" not in json.dumps(serve.call("reports"))


def test_a_shell_in_the_jobs_folder_has_its_variables_and_no_secret_in_its_arguments(serve, project, home):
    digest = serve.project(project(main__py="import time; time.sleep(600)", x__txt=""))
    serve.launch(order("1.1", digest, "main.py", env={"API_KEY": "secret"}))
    serve.running("1.1")
    command = serve.call("attach", attempt="1.1")["shell"]
    assert "secret" not in " ".join(command)
    script = b"echo $API_KEY $RACKSACK_JOB_ID; ls; command -v python\n"
    done = subprocess.run(command, input=script, capture_output=True, env={"SHELL": "/bin/sh"}, timeout=30, check=True)
    assert done.stdout.decode().split() == ["secret", "1", "main.py", "x.txt", f"{home}/attempts/1.1/venv/bin/python"]


def test_a_stop_is_never_ahead_of_the_launch_before_it(serve, project):
    digest = serve.project(project(job__sh="#!/bin/sh\nsleep 600\n"))
    orders = [order(f"{number}.1", digest, "job.sh") for number in range(10)]
    wish = {"op": "stop", "attempt": "9.1", "reason": "cancelled", "grace_s": 0, "signal": "TERM"}
    lines = [{"id": "a", "op": "launch", "orders": orders}, {"id": "b", **wish}]
    serve.send(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    assert serve.ended("9.1")["outcome"] == "cancelled"
