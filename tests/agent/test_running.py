"""What a job sees and what comes of it, from launch to removal."""

from __future__ import annotations

import base64
import io
import json
import os
import tarfile
import time
from pathlib import Path

import pytest

from racksack_agent.supervisor import short_tmp
from tests.agent.processes import kill_all_that_watch, listed, wait_until
from tests.agent.serving import Refused, Serve, order

SHOW = """
import json, os, sys
print(json.dumps({"argv": sys.argv, "cwd": os.getcwd(), "prefix": sys.prefix, "env": dict(os.environ),
                  "cores": sorted(os.sched_getaffinity(0)), "tty": os.isatty(0)}))
"""


def seen_by_job(serve, project, **more):
    digest = serve.project(project(main__py=SHOW))
    attempt = order("7.1", digest, "main.py", **more)
    report = serve.run(attempt)
    assert report["outcome"] == "done", serve.out("7.1", "stderr.log")
    return json.loads(serve.out("7.1"))


def test_a_script_runs_in_its_own_venv_and_copy(serve, project, home):
    seen = seen_by_job(serve, project, args=["--x", "a b", "$HOME;`id`", "", "\u00fc"])
    assert seen["argv"] == ["main.py", "--x", "a b", "$HOME;`id`", "", "\u00fc"]
    assert seen["cwd"] == f"{home}/attempts/7.1/work"
    assert seen["prefix"] == f"{home}/attempts/7.1/venv"
    assert not seen["tty"], "it reads nothing"
    states = [state for _, state in serve.seen]
    assert states == sorted(set(states), key=["preparing", "running", "ended"].index), "in order, each at most once"


def test_the_variables_of_a_job(serve, project, home, monkeypatch):
    seen = seen_by_job(
        serve, project, name="a name", node="r1", cpus=2.0, ram_bytes=3 << 30, submitted_at_s=1700000000.5,
        env={"MY": "1", "OMP_NUM_THREADS": "7"}, node_env={"MY": "0", "NODE_SAYS": "x"}, array_index=3,
    )["env"]  # fmt: skip
    folder = f"{home}/attempts/7.1"
    expected = {
        "RACKSACK_JOB_ID": "7", "RACKSACK_JOB_NAME": "a name", "RACKSACK_ATTEMPT": "7.1", "RACKSACK_NODE": "r1",
        "RACKSACK_CPUS": "2", "RACKSACK_RAM_MB": "3072", "RACKSACK_GPUS": "", "RACKSACK_GPU_UUIDS": "",
        "RACKSACK_JOB_DIR": folder + "/work", "RACKSACK_RETURN_DIR": folder + "/out", "RACKSACK_TMP": folder + "/tmp",
        "RACKSACK_SUBMIT_TIME": "1700000000.500", "RACKSACK_ARRAY_INDEX": "3", "TMPDIR": short_tmp.link_of(folder),
        "MY": "1", "NODE_SAYS": "x", "OMP_NUM_THREADS": "7", "MKL_NUM_THREADS": "2", "PYTHON_CPU_COUNT": "2",
        "PYTHONUNBUFFERED": "1", "CUDA_VISIBLE_DEVICES": "", "ROCR_VISIBLE_DEVICES": "",
        "HOME": os.environ["HOME"], "VIRTUAL_ENV": folder + "/venv",
    }  # fmt: skip
    assert {name: seen.get(name) for name in expected} == expected
    assert seen["PATH"].startswith(folder + "/venv/bin:")
    assert not {"TMUX_PANE_SECRET", "PYTEST_CURRENT_TEST", "TMUX", "TMUX_PANE"} & set(seen)


def test_what_a_script_for_slurm_finds_if_it_asks_for_it(serve, project):
    env = {"RACKSACK_ARRAY_ID": "40", "RACKSACK_ARRAY_INDEX": "2", "RACKSACK_WORLD_SIZE": "3", "RACKSACK_RANK": "1"}
    digest = serve.project(project(job__sh="#!/bin/sh\nenv | grep ^SLURM | sort\n"))
    serve.run(order("42.2", digest, "job.sh", env=env, slurm_env=True, cpus=2.0))
    found = dict(line.split("=", 1) for line in serve.out("42.2").splitlines())
    expected = {
        "SLURM_JOB_ID": "42", "SLURM_ARRAY_JOB_ID": "40", "SLURM_ARRAY_TASK_ID": "2", "SLURM_CPUS_PER_TASK": "2",
        "SLURM_NNODES": "3", "SLURM_PROCID": "1", "SLURM_RESTART_COUNT": "1", "SLURMD_NODENAME": "here",
    }  # fmt: skip
    assert {name: found.get(name) for name in expected} == expected
    serve.run(order("43.1", digest, "job.sh", env=env))
    assert serve.out("43.1") == ""


def test_sockets_fit_into_tmpdir_however_long_the_home_is(tmp_path, project):
    """107 bytes is the most; Ray takes 64 for its own part, multiprocessing 30."""
    home = tmp_path / ("domain.example" * 8)
    serve = Serve(home)
    script = (
        "import os, socket, tempfile\n"
        "path = os.environ['TMPDIR'] + '/ray/session_2026-01-01_12-00-00_123456_1234567/sockets'\n"
        "os.makedirs(path); socket.socket(socket.AF_UNIX).bind(path + '/plasma_store')\n"
        "assert tempfile.gettempdir() == os.environ['TMPDIR']\n"
        "assert os.path.realpath(os.environ['TMPDIR']) == os.path.realpath(os.environ['RACKSACK_TMP'])\n"
        "print(os.environ['TMPDIR'])\n"
    )
    digest = serve.project(project(main__py=script))
    report = serve.run(order("1.1", digest, "main.py"))
    assert report["outcome"] == "done", serve.out("1.1", "stderr.log")
    link = Path(serve.out("1.1").strip())
    assert not os.path.lexists(link), "it goes with the job"
    serve.launch(order("2.1", serve.project(project(job__sh="#!/bin/sh\necho $TMPDIR; sleep 600\n")), "job.sh"))
    serve.running("2.1")
    wait_until(lambda: serve.out("2.1") != "")
    link = Path(serve.out("2.1").strip())
    assert link.is_symlink()
    kill_all_that_watch(home, "2.1")
    serve.ended("2.1")
    assert not os.path.lexists(link), "also if all that watched it was killed"
    link.symlink_to(home / "attempts/9.9/tmp")
    serve.close()
    again = Serve(home)
    again.call("hello")
    assert not os.path.lexists(link), "and what a crash of the node left goes at the next start"
    again.close()


def test_one_mask_per_vendor(serve, project):
    gpus = [{"uuid": "GPU-aa", "index": 2, "vendor": "nvidia"}, {"uuid": "GPU-bb", "index": 0, "vendor": "nvidia"}]
    seen = seen_by_job(serve, project, gpus=gpus, env={"CUDA_VISIBLE_DEVICES": "0", "HIP_VISIBLE_DEVICES": "0"})["env"]
    assert seen["CUDA_VISIBLE_DEVICES"] == "GPU-aa,GPU-bb"
    assert seen["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert seen["ROCR_VISIBLE_DEVICES"] == ""
    assert "HIP_VISIBLE_DEVICES" not in seen
    assert seen["RACKSACK_GPUS"] == "2,0"
    assert seen["RACKSACK_GPU_UUIDS"] == "GPU-aa,GPU-bb"


def test_amd_devices_are_masked_once(serve, project):
    gpus = [{"uuid": "GPU-9246a1b2c3d4e5f6", "index": 1, "vendor": "amd"}, {"uuid": "3", "index": 3, "vendor": "amd"}]
    seen = seen_by_job(serve, project, gpus=gpus)["env"]
    assert seen["ROCR_VISIBLE_DEVICES"] == "GPU-9246a1b2c3d4e5f6,3"
    assert "CUDA_VISIBLE_DEVICES" not in seen, "HIP obeys it too"


def test_whole_cores_are_pinned_to_one_attempt_each(serve, project):
    digest = serve.project(project(wait__sh="#!/bin/sh\nexec sleep 600\n"))
    cores = sorted(os.sched_getaffinity(0))
    serve.launch(*(order(f"{number}.1", digest, "wait.sh", cpus=1.0) for number in range(1, len(cores) + 2)))
    reports = [serve.running(f"{number}.1") for number in range(1, len(cores) + 2)]
    pinned = [report["cpu_ids"] for report in reports]
    assert sorted(core for cores in pinned[:-1] for core in cores) == cores
    assert pinned[-1] == [], "there is none left; the kernel shares them"


def test_an_executable_with_its_exit_code(serve, project):
    digest = serve.project(project(job__sh="#!/bin/sh\necho to out; echo to err >&2; exit 3\n"))
    report = serve.run(order("1.1", digest, "job.sh"))
    assert (report["outcome"], report["exit_code"], report["signal"]) == ("failed", 3, None)
    assert report["reason"] == "exit code 3"
    assert (serve.out("1.1"), serve.out("1.1", "stderr.log")) == ("to out\n", "to err\n")
    assert report["output_files"] == 2
    assert report["output_bytes"] == 14
    assert report["ram_peak_bytes"] > 0
    assert report["ended_at_s"] >= report["started_at_s"]


def test_a_script_that_lost_its_executable_bit(serve, project):
    folder = project(job__sh="#!/bin/sh\necho runs\n")
    (folder / "job.sh").chmod(0o644)
    assert serve.run(order("1.1", serve.project(folder), "job.sh"))["outcome"] == "done"


@pytest.mark.parametrize(
    ("files", "entry", "outcome", "words"),
    [
        ({"data__txt": "no program"}, "data.txt", "prepare_failed", "not executable"),
        ({"a__txt": "x"}, "main.py", "prepare_failed", "the project has no file main.py"),
        ({"a__txt": "x"}, "../../../../../../bin/true", "prepare_failed", "outside the project"),
        ({"a__txt": "x"}, "/bin/true", "prepare_failed", "outside the project"),
        ({"job__sh": "#!/nonexistent/shell\n"}, "job.sh", "failed", "interpreter in its first line"),
    ],
)
def test_an_entrypoint_that_cannot_be_run(serve, project, files, entry, outcome, words):
    report = serve.run(order("1.1", serve.project(project(**files)), entry))
    assert report["outcome"] == outcome
    assert words in report["reason"]


def test_a_failure_in_the_jobs_own_words(serve, project):
    script = "#!/bin/sh\necho 'the  input is\nempty' > $RACKSACK_RETURN_DIR/error.txt; exit 1\n"
    report = serve.run(order("1.1", serve.project(project(job__sh=script)), "job.sh"))
    assert report["reason"] == "the input is empty"


def test_death_by_signal(serve, project):
    report = serve.run(order("1.1", serve.project(project(job__sh="#!/bin/sh\nkill -SEGV $$\n")), "job.sh"))
    assert (report["outcome"], report["signal"], report["exit_code"]) == ("failed", 11, None)
    assert report["reason"] == "killed by SIGSEGV"


def test_outputs_come_back_beside_the_return_folder(serve, project):
    script = (
        "#!/bin/sh\nmkdir -p models/a/b; echo 1 > models/a/b/m.bin; echo 2 > x.csv; echo 3 > $RACKSACK_RETURN_DIR/own\n"
        "ln -s /etc/passwd leak.csv; ln -s x.csv inside.csv; mkfifo pipe.csv\n"
        "ln -s /etc/hosts $RACKSACK_RETURN_DIR/out-link\n"
    )
    digest = serve.project(project(job__sh=script))
    report = serve.run(order("1.1", digest, "job.sh", outputs=["*.csv", "models/**", "../*", "/etc/*", "nothing*"]))
    assert report["outcome"] == "done"
    archive = serve.call("fetch", attempts=["1.1", "9.9"], limit_bytes=1 << 20)
    assert set(archive) == {"1.1"}
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(archive["1.1"]))) as tar:
        names = {member.name for member in tar if not member.isdir()}
    assert names == {"stdout.log", "stderr.log", "own", "x.csv", "inside.csv", "models/a/b/m.bin"}
    assert report["output_files"] == 5, "links are not counted"
    dropped = "\n".join(report["dropped"])
    for words in (
        "leak.csv: a link",
        "pipe.csv: a device",
        "out-link: a link",
        "../*: ",
        "/etc/*: ",
        "nothing*: nothing",
    ):
        assert words in dropped


def test_a_log_grows_under_the_eyes_of_its_reader(serve, project):
    digest = serve.project(project(job__sh="#!/bin/sh\necho first\nread line\necho second $line\n"))
    serve.launch(order("1.1", digest, "job.sh", interactive=True))
    serve.running("1.1")

    def tail(offset, limit=100):
        return serve.call("tail", attempt="1.1", stream="stdout", offset=offset, limit=limit)

    wait_until(lambda: tail(0)["size"] == 6)
    assert base64.b64decode(tail(0)["data_b64"]) == b"first\n"
    assert tail(-3) == {"data_b64": base64.b64encode(b"st\n").decode(), "offset": 3, "size": 6}
    assert tail(100) == {"data_b64": "", "offset": 6, "size": 6}
    assert tail(0, 2)["data_b64"] == base64.b64encode(b"fi").decode()
    assert serve.call("tail", attempt="1.1", stream="env", offset=0, limit=9)["size"] == 0
    with pytest.raises(Refused) as refused:
        serve.call("tail", attempt="2.1", stream="stdout", offset=0, limit=1)
    assert refused.value.kind == "no_attempt"


def test_stats_count_the_whole_tree(serve, project):
    child = "import time; x = b'x' * (200 << 20); print(1, flush=True); time.sleep(600)"
    script = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {child!r}])\n"
    serve.launch(order("1.1", serve.project(project(main__py=script)), "main.py"))
    serve.running("1.1")
    wait_until(lambda: serve.call("tail", attempt="1.1", stream="stdout", offset=0, limit=1)["size"] > 0)
    stats = serve.call("stats")
    assert stats["attempts"]["1.1"]["rss_bytes"] > 200 << 20
    assert stats["attempts"]["1.1"]["cpu_s"] > 0
    assert stats["ram_used_bytes"] > 200 << 20
    assert stats["disk_free_bytes"] > 0


def test_peak_memory_of_a_short_process_is_known(serve, project):
    report = serve.run(order("1.1", serve.project(project(main__py="x = b'x' * (300 << 20)")), "main.py"))
    assert 300 << 20 < report["ram_peak_bytes"] < 600 << 20


def test_paths_of_the_project_in_memory(serve, project):
    script = "#!/bin/sh\ncat $RACKSACK_RAM_DIR/data/x; echo $RACKSACK_RAM_DIR; cat data/x\n"
    folder = project(job__sh=script)
    (folder / "data").mkdir()
    (folder / "data" / "x").write_text("content\n")
    report = serve.run(order("1.1", serve.project(folder), "job.sh", stage_in_ram=["data"]))
    lines = serve.out("1.1").split()
    assert (report["outcome"], lines[0], lines[2]) == ("done", "content", "content")
    assert lines[1].startswith("/dev/shm/")
    assert not Path(lines[1]).exists()


def test_a_path_for_memory_that_is_not_there(serve, project):
    report = serve.run(order("1.1", serve.project(project(job__sh="#!/bin/sh\n")), "job.sh", stage_in_ram=["../x"]))
    assert report["outcome"] == "prepare_failed"
    assert "the project has no ../x" in report["reason"]


def test_a_job_may_change_its_copy_and_the_next_one_sees_the_original(serve, project):
    digest = serve.project(
        project(job__sh="#!/bin/sh\ncat data.txt; echo more >> data.txt; rm job.sh\n", data__txt="one\n")
    )
    for number in (1, 2):
        assert serve.run(order(f"1.{number}", digest, "job.sh"))["outcome"] == "done"
        assert serve.out(f"1.{number}") == "one\n"


def test_removing(serve, project, home):
    closed = "#!/bin/sh\nmkdir -p a/b; touch a/b/c; chmod 0 a/b; chmod 0 a\n"
    digest = serve.project(project(job__sh=closed, wait__sh="#!/bin/sh\nexec sleep 600\n"))
    serve.run(order("1.1", digest, "job.sh"))
    serve.launch(order("2.1", digest, "wait.sh"))
    serve.running("2.1")
    with pytest.raises(Refused) as refused:
        serve.call("remove", attempts=["2.1", "1.1", "3.1"])
    assert refused.value.kind == "running"
    assert "2.1 is still running" in str(refused.value)
    assert [report["attempt"] for report in serve.call("reports")] == ["2.1"]
    assert listed(home / "attempts") == ["2.1"]
    serve.call("remove", attempts=["1.1"])


def test_launching_twice_runs_once(serve, project):
    digest = serve.project(project(job__sh="#!/bin/sh\necho ran; sleep 600\n"))
    serve.launch(order("1.1", digest, "job.sh"))
    serve.running("1.1")
    serve.launch(order("1.1", digest, "job.sh"), order("1.1", digest, "job.sh"))
    pid = serve.reports["1.1"]["node_pid"]
    assert serve.call("reports")[0]["node_pid"] == pid


def test_fifty_at_once(serve, project):
    digest = serve.project(project(job__sh="#!/bin/sh\necho $RACKSACK_JOB_ID\n"))
    serve.launch(*(order(f"{number}.1", digest, "job.sh", str(number)) for number in range(50)))
    for number in range(50):
        assert serve.ended(f"{number}.1")["outcome"] == "done"
        assert serve.out(f"{number}.1") == f"{number}\n"


def test_nothing_of_the_project_needs_a_utf8_name(serve, project):
    folder = project(job__sh="#!/bin/sh\nls > $RACKSACK_RETURN_DIR/list\ncp b* $RACKSACK_RETURN_DIR/\n")
    (folder / os.fsdecode(b"b\xff\xfe name")).write_text("x")
    report = serve.run(order("1.1", serve.project(folder), "job.sh", outputs=["b*"]))
    assert report["outcome"] == "done"
    archive = serve.call("fetch", attempts=["1.1"], limit_bytes=1 << 20)["1.1"]
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(archive)), errors="surrogateescape") as tar:
        assert os.fsdecode(b"b\xff\xfe name") in tar.getnames()


def test_a_dropped_name_that_is_not_utf8_is_told(serve, project):
    script = "#!/bin/sh\nln -s /etc/passwd \"$(printf 'b\\377')\"\n"
    report = serve.run(order("1.1", serve.project(project(job__sh=script)), "job.sh", outputs=["b*"]))
    assert report["dropped"] == ["b\\xff: a link that leads out of the return folder (/etc/passwd)"]


def test_the_clock_of_a_report(serve, project):
    before_s = time.time()
    report = serve.run(order("1.1", serve.project(project(job__sh="#!/bin/sh\n")), "job.sh"))
    assert before_s <= report["started_at_s"] <= report["ended_at_s"] <= time.time()
    assert report["prepare_s"] > 0


def test_a_job_that_puts_other_things_where_its_logs_were(serve, project, tmp_path):
    """Nothing is touched through a link, and nobody waits for a pipe."""
    outside = tmp_path / "outside"
    outside.mkdir()
    os.mkfifo(outside / "pipe")
    (outside / "error.txt").write_text("not its own words")
    script = f"#!/bin/sh\nrm -r $RACKSACK_RETURN_DIR; ln -s {outside} $RACKSACK_RETURN_DIR\nexit 3\n"
    report = serve.run(order("1.1", serve.project(project(job__sh=script)), "job.sh"))
    assert (report["outcome"], report["reason"], report["output_files"]) == ("failed", "exit code 3", 2)
    assert report["dropped"] == ["the return folder itself: the job removed or replaced it"]
    assert sorted(listed(outside)) == ["error.txt", "pipe"]
    script = "#!/bin/sh\ncd $RACKSACK_RETURN_DIR; rm *.log; mkfifo stdout.log stderr.log error.txt\n"
    script += "touch ../tmp/begun; sleep 600\n"
    serve.launch(order("2.1", serve.project(project(job__sh=script)), "job.sh"))
    wait_until(lambda: (serve.home / "attempts/2.1/tmp/begun").exists())
    assert serve.call("tail", attempt="2.1", stream="stdout", offset=0, limit=9)["size"] == 0
    serve.call("stop", attempt="2.1", reason="cancelled", grace_s=0)
    assert serve.ended("2.1")["outcome"] == "cancelled"


def test_a_job_that_removes_everything_it_can_find(serve, project):
    digest = serve.project(project(job__sh="#!/bin/sh\nrm -rf $RACKSACK_JOB_DIR $RACKSACK_RETURN_DIR $RACKSACK_TMP\n"))
    report = serve.run(order("1.1", digest, "job.sh", outputs=["*.csv"]))
    assert report["outcome"] == "done"
    serve.call("remove", attempts=["1.1"])


def test_folders_nested_too_deep_for_a_path(serve, project):
    script = "import os\nfor _ in range(3000):\n    os.mkdir('deeper-still'); os.chdir('deeper-still')\n"
    report = serve.run(order("1.1", serve.project(project(main__py=script)), "main.py", outputs=["d*/**"]))
    assert report["state"] == "ended"
    serve.call("remove", attempts=["1.1"])
    assert listed(serve.home / "attempts") == []


def test_it_is_noted_when_a_job_printed(serve, project):
    script = "import os, time\n"
    script += "def until(size):\n    while all(int(line.split()[1]) != size for line in notes()): time.sleep(0.05)\n"
    script += "def notes():\n    path = os.environ['RACKSACK_RETURN_DIR'] + '/times.log'\n"
    script += "    return open(path).readlines() if os.path.exists(path) else []\n"
    script += "print('first'); until(6); print('second'); until(13)\n"
    report = serve.run(order("1.1", serve.project(project(main__py=script)), "main.py"))
    assert report["outcome"] == "done"
    notes = [line.split() for line in serve.out("1.1", "times.log").splitlines()]
    assert [int(size) for _, size, _ in notes] == [6, 13]
    assert report["started_at_s"] < float(notes[0][0]) < float(notes[1][0]) <= report["ended_at_s"]
    assert serve.call("tail", attempt="1.1", stream="times", offset=0, limit=9)["size"] > 0
