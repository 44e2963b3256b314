"""Every way for an attempt to end other than by itself, and that it leaves no process."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from racksack_agent import processes
from racksack_agent.serve import limit_choice
from tests.agent.processes import kill_all_that_watch, wait_until, with_word
from tests.agent.serving import Refused, order

# A job that does all it can to stay: two forks, a session of its own, deaf to polite signals, an empty environment.
STUBBORN = """
import os, signal, sys, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
    signal.signal(number, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execve(sys.executable, ["python", "-c", "import signal, time; time.sleep(600)", sys.argv[1]], {})
    os._exit(0)
print("ready", flush=True)
if sys.argv[2:] == ["eat"]:
    hoard = []
    while True:
        hoard.append(b"x" * (8 << 20))
        time.sleep(0.01)
time.sleep(600)
"""


def start_stubborn(serve, project, token, *args, **more):
    digest = serve.project(project(main__py=STUBBORN))
    serve.launch(order("1.1", digest, "main.py", token, *args, **more))
    serve.running("1.1")
    return digest


def tokens_of(token, supervisors=()):
    """Processes of the job, the supervisor (which has no token) left out."""
    return [pid for pid in with_word(token) if pid not in supervisors]


def stop(serve, attempt="1.1", **more):
    serve.call("stop", **{"attempt": attempt, "reason": "cancelled", "grace_s": 0.5, **more})


def test_a_stubborn_job_is_cancelled(serve, project, token):
    start_stubborn(serve, project, token)
    wait_until(lambda: len(with_word(token)) >= 2 and serve.out("1.1") == "ready\n")
    stop(serve)
    report = serve.ended("1.1")
    assert (report["outcome"], report["signal"]) == ("cancelled", 9)
    assert report["reason"] == "it was cancelled"
    assert with_word(token) == []


def test_a_stubborn_job_runs_into_its_time_limit(serve, project, token):
    start_stubborn(serve, project, token, time_limit_s=1.0, grace_s=0.3)
    report = serve.ended("1.1")
    assert report["outcome"] == "timeout"
    assert report["reason"] == "it reached its time limit of 1 s"
    assert with_word(token) == []


LIMITS = [
    pytest.param(
        "cgroup1",
        marks=pytest.mark.skipif(
            os.getuid() != 0 or not limit_choice.memory_mount(), reason="needs root and a cgroup version 1 of memory"
        ),
    ),
    "watch",
]


@pytest.mark.parametrize("limit", LIMITS)
def test_a_stubborn_job_that_eats_memory(start_serve, project, token, limit):
    serve = start_serve("--limit", limit)
    assert serve.call("hello")["limit"] == limit
    start_stubborn(serve, project, token, "eat", ram_bytes=128 << 20)
    report = serve.ended("1.1")
    assert report["outcome"] == "oom"
    assert report["reason"].endswith("of the 128M of memory that it asked for")
    assert report["ram_peak_bytes"] >= 128 << 20
    assert with_word(token) == []


@pytest.mark.parametrize("limit", LIMITS)
def test_memory_is_that_of_all_processes_together(start_serve, project, token, limit):
    serve = start_serve("--limit", limit)
    child = "import time; x = b'x' * (40 << 20); time.sleep(600)"
    script = (
        "import subprocess, sys\n"
        f"all = [subprocess.Popen([sys.executable, '-c', {child!r}, {token!r}]) for _ in range(6)]\n"
        "import os\nos.wait()\nsys.exit(1)  # the kernel ended one of them\n"
    )
    report_order = order("1.1", serve.project(project(main__py=script)), "main.py", ram_bytes=150 << 20)
    assert serve.run(report_order)["outcome"] == "oom"
    assert with_word(token) == []


@pytest.mark.parametrize("limit", LIMITS)
def test_a_job_within_its_memory_is_left_alone(start_serve, project, limit):
    serve = start_serve("--limit", limit)
    script = "import os, time\nx = b'x' * (60 << 20)\nif os.fork(): os.wait()\ntime.sleep(1)\n"
    report = serve.run(order("1.1", serve.project(project(main__py=script)), "main.py", ram_bytes=140 << 20))
    assert report["outcome"] == "done", report["reason"]


@pytest.mark.parametrize("limit", ["cgroup1"])
def test_the_page_cache_is_not_held_against_a_job(start_serve, project, limit):
    if not limit_choice.memory_mount() or os.getuid() != 0:
        pytest.skip("needs root and a cgroup version 1 of memory")
    serve = start_serve("--limit", limit)
    digest = serve.project(
        project(job__sh="#!/bin/sh\nhead -c 200000000 /dev/zero > big; cat big > /dev/null; rm big\n")
    )
    report = serve.run(order("1.1", digest, "job.sh", ram_bytes=64 << 20))
    assert (report["outcome"], report["reason"]) == ("done", "")
    assert report["ram_peak_bytes"] < 64 << 20


def test_the_cgroup_of_an_attempt_is_gone_after_it(serve, project, home):
    if serve.call("hello")["limit"] != "cgroup1":
        pytest.skip("needs root and a cgroup version 1 of memory")
    digest = serve.project(project(job__sh="#!/bin/sh\ncat /proc/self/cgroup\n"))
    serve.run(order("1.1", digest, "job.sh"))
    path = next(line.split(":")[2] for line in serve.out("1.1").split() if ":memory:" in line)
    assert path.endswith("/1.1")
    assert not Path(limit_choice.memory_mount() + path).exists()


def test_what_a_finished_job_left_running_is_ended(serve, project, token):
    script = f"#!/bin/sh\nsetsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' {token} &\nexit 0\n"
    report = serve.run(order("1.1", serve.project(project(job__sh=script)), "job.sh", grace_s=0.3))
    assert (report["outcome"], report["exit_code"]) == ("done", 0)
    assert with_word(token) == []


def test_a_polite_job_ends_by_the_first_signal_within_the_grace(serve, project):
    script = "import signal, sys, time\nsignal.signal(signal.SIGINT, lambda *_: sys.exit(5))\n"
    script += "print(1, flush=True)\ntime.sleep(600)\n"
    serve.launch(order("1.1", serve.project(project(main__py=script)), "main.py"))
    serve.running("1.1")
    wait_until(lambda: serve.out("1.1") == "1\n")
    stop(serve, signal="INT", grace_s=60, reason="fenced")
    report = serve.ended("1.1")
    assert (report["outcome"], report["exit_code"], report["signal"]) == ("cancelled", 5, None)
    assert report["reason"] == "a newer attempt took its place"


def test_a_job_that_was_stopped_by_signal_wakes_up_to_end(serve, project):
    serve.launch(order("1.1", serve.project(project(job__sh="#!/bin/sh\nkill -STOP $$\nsleep 600\n")), "job.sh"))
    serve.running("1.1")
    stop(serve, grace_s=30)
    assert serve.ended("1.1", 20)["signal"] == signal.SIGTERM


# It keeps the state to be saved in a worker process, as a pool or a data loader does.
SAVES_WITH_A_WORKER = """
import multiprocessing as mp, os, signal, sys
def worker(c):
    while True: c.send(c.recv() + 1)
if __name__ == "__main__":
    a, b = mp.Pipe()
    helper = mp.Process(target=worker, args=(b,)); helper.start(); b.close()
    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
    signal.signal(signal.SIGUSR1, lambda *_: print("warned", flush=True))
    print("ready", flush=True)
    while not asked: signal.pause()
    a.send(41)
    print("saved", a.recv(), flush=True)
    helper.terminate()
"""


@pytest.mark.parametrize("script", [None, "#!/bin/sh\npython3 main.py\n"])
def test_a_program_that_is_asked_to_end_still_has_its_workers(serve, project, script):
    """By cancel and by the time limit; a shell around it does not matter."""
    files = {"main__py": SAVES_WITH_A_WORKER} | ({"job__sh": script} if script else {})
    digest = serve.project(project(**files))
    entry = "job.sh" if script else "main.py"
    serve.launch(order("1.1", digest, entry, grace_s=20))
    serve.launch(order("2.1", digest, entry, grace_s=20, time_limit_s=2))
    for attempt in ("1.1", "2.1"):
        serve.running(attempt)
    wait_until(lambda: serve.out("1.1") == "ready\n")
    stop(serve, grace_s=20)
    for attempt, outcome in (("1.1", "cancelled"), ("2.1", "timeout")):
        assert serve.ended(attempt)["outcome"] == outcome
        assert serve.out(attempt) == "ready\nsaved 42\n"


def test_helpers_are_asked_too_before_they_are_killed(serve, project, token):
    """A program that does not end leaves them the last part of the grace."""
    helper = "trap 'echo helper saved; exit' TERM; while :; do sleep 0.05; done"
    script = '#!/bin/bash\ntrap "" TERM\n(trap - TERM; exec bash -c "$1" $2) &\necho ready\nexec sleep 600\n'
    serve.launch(order("1.1", serve.project(project(job__sh=script)), "job.sh", helper, token))
    serve.running("1.1")
    wait_until(lambda: serve.out("1.1") == "ready\n")
    stop(serve, grace_s=3)
    report = serve.ended("1.1")
    assert (report["outcome"], report["signal"]) == ("cancelled", 9)
    assert serve.out("1.1") == "ready\nhelper saved\n"


def test_a_warning_before_the_time_limit_and_before_making_room(serve, project):
    digest = serve.project(project(main__py=SAVES_WITH_A_WORKER))
    serve.launch(order("1.1", digest, "main.py", time_limit_s=4, warn_s=2.5, grace_s=20))
    serve.launch(order("2.1", digest, "main.py", grace_s=20))
    serve.running("2.1")
    wait_until(lambda: serve.out("2.1") == "ready\n")
    stop(serve, "2.1", grace_s=20, warn_s=1)
    for attempt, outcome in (("1.1", "timeout"), ("2.1", "cancelled")):
        assert serve.ended(attempt)["outcome"] == outcome
        assert serve.out(attempt) == "ready\nwarned\nsaved 42\n"


def test_a_cancel_does_not_wait_for_the_end_of_a_warning(serve, project):
    digest = serve.project(project(main__py=SAVES_WITH_A_WORKER))
    serve.launch(order("1.1", digest, "main.py", grace_s=20))
    serve.running("1.1")
    wait_until(lambda: serve.out("1.1") == "ready\n")
    stop(serve, grace_s=20, warn_s=600)
    wait_until(lambda: serve.out("1.1") == "ready\nwarned\n")
    stop(serve, grace_s=20)
    assert serve.ended("1.1")["outcome"] == "cancelled"
    assert serve.out("1.1") == "ready\nwarned\nsaved 42\n"


def test_a_signal_reaches_the_program_alone(serve, project):
    """The workers, which do not handle it, would die of it."""
    digest = serve.project(project(main__py=SAVES_WITH_A_WORKER))
    serve.launch(order("1.1", digest, "main.py"))
    serve.running("1.1")
    wait_until(lambda: serve.out("1.1") == "ready\n")
    serve.call("signal", attempt="1.1", signal="USR1")
    wait_until(lambda: serve.out("1.1") == "ready\nwarned\n")
    serve.call("signal", attempt="1.1", signal="TERM")
    assert serve.ended("1.1")["outcome"] == "done"
    assert serve.out("1.1").endswith("saved 42\n")
    for attempt, name in (("1.1", "USR1"), ("9.1", "USR1"), ("1.1", "NOSUCH")):
        with pytest.raises(Refused):
            serve.call("signal", attempt=attempt, signal=name)


def test_a_second_stop_with_less_patience_wins(serve, project, token):
    start_stubborn(serve, project, token)
    stop(serve, grace_s=600)
    stop(serve, grace_s=600)
    stop(serve, grace_s=0)
    assert serve.ended("1.1")["outcome"] == "cancelled"
    stop(serve)
    assert with_word(token) == []


def test_stopping_what_is_not_here_is_no_fault_and_bad_wishes_are(serve):
    stop(serve, "9.9")
    for wrong in ({"reason": "boredom"}, {"signal": "NOSUCH"}, {"grace_s": "long"}, {"attempt": "../x.1"}):
        with pytest.raises(Refused) as refused:
            stop(serve, **wrong)
        assert refused.value.kind == "bad_request"


def test_a_stop_while_it_prepares(start_serve, project, tmp_path):
    uv = tmp_path / "bin" / "uv"
    uv.parent.mkdir()
    uv.write_text("#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 1; done\n")
    uv.chmod(0o755)
    serve = start_serve(env={"PATH": f"{uv.parent}:{os.environ['PATH']}"})
    digest = serve.project(project(main__py="", requirements__txt="anything\n"))
    wanted = {"kind": "requirements", "file": "requirements.txt"}
    serve.launch(order("1.1", digest, "main.py", environment=wanted))
    wait_until(lambda: len(with_word(str(uv))) > 0)
    assert serve.reports["1.1"]["state"] == "preparing"
    stop(serve)
    report = serve.ended("1.1")
    assert (report["outcome"], report["reason"]) == ("cancelled", "it was cancelled")
    assert with_word(str(uv)) == []


def test_a_stop_right_after_the_launch(serve, project, token):
    digest = serve.project(project(main__py=STUBBORN))
    for number in range(5):
        serve.launch(order(f"{number}.1", digest, "main.py", token))
        stop(serve, f"{number}.1", grace_s=0)
    for number in range(5):
        assert serve.ended(f"{number}.1")["outcome"] == "cancelled"
    assert with_word(token) == []


def test_a_crash_of_all_that_watches_makes_a_lost_attempt_and_leaves_nothing(serve, project, token):
    digest = serve.project(project(main__py=STUBBORN.replace("{}", "os.environ")))
    serve.launch(order("1.1", digest, "main.py", token))
    serve.running("1.1")
    wait_until(lambda: len(with_word(token)) >= 2)
    kill_all_that_watch(serve.home, "1.1")
    report = serve.ended("1.1")
    assert (report["outcome"], report["reason"]) == ("lost", "its supervisor was killed")
    assert report["output_files"] == 3
    assert with_word(token) == []
    serve.call("remove", attempts=["1.1"])


def test_a_crash_around_a_job_that_hides(start_serve, project, token):
    """Its process has neither a parent of ours nor our variables; the cgroup still knows it."""
    serve = start_serve()
    if serve.call("hello")["limit"] != "cgroup1":
        pytest.skip("needs root and a cgroup version 1 of memory")
    start_stubborn(serve, project, token)
    wait_until(lambda: len(with_word(token)) >= 2)
    kill_all_that_watch(serve.home, "1.1")
    assert serve.ended("1.1")["outcome"] == "lost"
    assert with_word(token) == []


def signal_all(serve, number):
    """As systemd does with a login when the machine goes down: each process of the attempt, TERM and HUP together."""
    supervisor = serve.reports["1.1"]["node_pid"]
    found = [supervisor, *processes.descendants(supervisor)]
    for pid in found:
        for one in (number, signal.SIGHUP):
            with suppress(ProcessLookupError):
                os.kill(pid, one)


def test_a_machine_going_down_makes_a_lost_attempt(serve, project):
    serve.launch(order("1.1", serve.project(project(job__sh="#!/bin/sh\nsleep 600\n")), "job.sh"))
    serve.running("1.1")
    signal_all(serve, signal.SIGTERM)
    report = serve.ended("1.1")
    assert (report["outcome"], report["reason"]) == ("lost", "the node is going down")


def test_a_job_that_ends_well_while_the_machine_goes_down_is_done(serve, project):
    script = "#!/bin/bash\ntrap 'echo saved; exit 0' TERM\ntrap '' HUP\necho ready\nwhile :; do sleep 0.05; done\n"
    serve.launch(order("1.1", serve.project(project(job__sh=script)), "job.sh"))
    serve.running("1.1")
    wait_until(lambda: serve.out("1.1") == "ready\n")
    signal_all(serve, signal.SIGTERM)
    assert serve.ended("1.1")["outcome"] == "done"
    assert serve.out("1.1") == "ready\nsaved\n"


def test_a_machine_going_down_while_an_attempt_is_prepared(start_serve, project, tmp_path):
    uv = tmp_path / "bin" / "uv"
    uv.parent.mkdir()
    uv.write_text("#!/bin/sh\nsleep 600\n")
    uv.chmod(0o755)
    serve = start_serve(env={"PATH": f"{uv.parent}:{os.environ['PATH']}"})
    digest = serve.project(project(main__py="", requirements__txt="six\n"))
    wanted = {"kind": "requirements", "file": "requirements.txt"}
    serve.launch(order("1.1", digest, "main.py", environment=wanted))
    lock = serve.home / "attempts/1.1/lock"
    wait_until(lambda: lock.exists() and lock.read_text() and (serve.home / "attempts/1.1/out/env.log").exists())
    os.kill(int(lock.read_text()), signal.SIGTERM)
    assert serve.ended("1.1")["outcome"] == "lost"


def test_the_loss_of_the_terminal_ends_no_job(serve, project):
    digest = serve.project(
        project(job__sh="#!/bin/sh\nuntil [ -e $RACKSACK_TMP/go ]; do sleep 0.05; done; echo went on\n")
    )
    serve.launch(order("1.1", digest, "job.sh"))
    serve.running("1.1")
    command = serve.call("attach", attempt="1.1")["session"]
    os.spawnvp(os.P_WAIT, command[0], [*command[: command.index("attach-session")], "kill-server"])
    (serve.home / "attempts/1.1/tmp/go").touch()
    assert serve.ended("1.1")["outcome"] == "done"
    assert serve.out("1.1") == "went on\n"


def test_after_a_restart_of_the_node_its_attempts_are_lost(start_serve, project, home):
    serve = start_serve()
    digest = serve.project(project(job__sh="#!/bin/sh\necho x; sleep 600\n", quick__sh="#!/bin/sh\necho whole\n"))
    serve.launch(order("1.1", digest, "job.sh"))
    serve.running("1.1")
    for attempt in ("2.1", "3.1"):
        serve.run(order(attempt, digest, "quick.sh"))
    serve.close()
    kill_all_that_watch(home, "1.1")
    for attempt in ("1.1", "2.1", "3.1"):
        pretend_other_boot(home / "attempts" / attempt)
    (home / "attempts/3.1/out/stdout.log").write_text(
        ""
    )  # what a power cut does to a file that was not on the disk yet
    again = start_serve()
    reports = {report["attempt"]: report for report in again.call("hello")["reports"]}
    assert reports["2.1"]["outcome"] == "done"
    assert reports["3.1"]["outcome"] == "lost"
    assert again.ended("1.1")["reason"] == "the node was restarted"


def pretend_other_boot(folder):
    for name in ("launch.json", "state.json", "exit.json"):
        path = folder / name
        if path.exists():
            path.write_text(json.dumps({**json.loads(path.read_text()), "boot_id": "of another day"}))


def test_a_supervisor_that_never_begins(start_serve, project, home, monkeypatch):
    serve = start_serve()
    digest = serve.project(project(job__sh="#!/bin/sh\n"))
    serve.run(order("1.1", digest, "job.sh"))
    folder = home / "attempts" / "2.1"
    (folder / "out").mkdir(parents=True)
    launch = json.loads((home / "attempts/1.1/launch.json").read_text())
    launch.update(attempt="2.1", launched_at_s=time.time() - 3600)
    (folder / "launch.json").write_text(json.dumps(launch))
    report = serve.ended("2.1")
    assert (report["outcome"], report["reason"]) == ("lost", "its supervisor never started")
