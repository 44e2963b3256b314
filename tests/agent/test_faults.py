"""Whose fault an end is: what a node lacks or damages is tried elsewhere and is never the job's own failure."""

from __future__ import annotations

import http.server
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from racksack_agent import processes, records
from racksack_agent.boot import boot_id
from racksack_agent.home import Home
from racksack_agent.problems import NodeAtFaultError
from racksack_agent.supervisor import build_faults, prepare, venv_reuse
from racksack_agent.supervisor.end import StopRequest
from tests.agent.conftest import BIN
from tests.agent.serving import Serve, order, planned
from tests.agent.wheels import make_wheel

Project = Callable[..., Path]
BLAMED = ("prepare_failed", "node")
needs_uv = pytest.mark.skipif(not shutil.which("uv", path=BIN), reason="needs uv")


@pytest.fixture
def index() -> Iterator[Callable[[int], str]]:
    """Package indexes that answer everything with one status."""
    servers = []

    def start(status: int) -> str:
        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing."""

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/simple"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def settings(index_url: str, tmp_path: Path) -> dict[str, str]:
    return {
        "UV_INDEX_URL": index_url, "UV_HTTP_RETRIES": "0", "UV_CACHE_DIR": str(tmp_path / "cache"), "PIP_RETRIES": "1",
        "PIP_INDEX_URL": index_url, "PIP_CONFIG_FILE": os.devnull, "UV_NO_CONFIG": "1",
    }  # fmt: skip


@needs_uv
@pytest.mark.parametrize("where", ["http://127.0.0.1:1/simple", "http://no-such-host.invalid/simple", 503])
def test_an_index_that_cannot_be_reached(serve, project, index, tmp_path, where) -> None:
    folder = project(main__py="", requirements__txt="toy-one==1.0\n")
    digest = serve.project(folder)
    url = where if isinstance(where, str) else index(where)
    report = serve.run(order("1.1", digest, "main.py", node_env=settings(url, tmp_path), environment=planned(folder)))
    assert (report["outcome"], report["at_fault"]) == BLAMED
    assert report["reason"].startswith("the package index cannot be reached from this node: ")


@needs_uv
def test_a_package_that_the_index_does_not_have_is_the_jobs_fault(serve, project, index, tmp_path) -> None:
    folder = project(main__py="", requirements__txt="toy-one==1.0\n")
    digest = serve.project(folder)
    report = serve.run(
        order("1.1", digest, "main.py", node_env=settings(index(404), tmp_path), environment=planned(folder))
    )
    assert (report["outcome"], report["at_fault"]) == ("prepare_failed", "job")


def test_pip_says_in_its_own_words_that_the_index_is_unreachable() -> None:
    said = (
        "WARNING: Retrying (Retry(total=4, connect=None)) after connection broken by 'NewConnectionError("
        "'<pip._vendor.urllib3>: Failed to establish a new connection: [Errno 111] Connection refused')': /simple/x/\n"
        "ERROR: Could not find a version that satisfies the requirement x (from versions: none)\n"
    )
    assert build_faults.node_fault(said) == "the package index cannot be reached from this node"


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("error: failed to write: No space left on device (os error 28)", "disk is full"),
        ("OSError: [Errno 24] Too many open files", "descriptors"),
        ("error: failed to spawn: Resource temporarily unavailable (os error 11)", "processes"),
        ("error: Read-only file system (os error 30)", "read-only"),
        ("The virtual environment was not created successfully because ensurepip is not available.", "python3-venv"),
        ("error: the build backend returned an error", ""),
        ("SyntaxError: invalid syntax", ""),
        ("os error 1114", ""),
    ],
)
def test_what_the_words_of_a_build_mean(said: str, found: str) -> None:
    fault = build_faults.node_fault(said)
    assert found in fault
    assert bool(found) == bool(fault)


UVS = {
    "killed": "#!/bin/sh\nkill -9 $$\n",
    "crashed": "#!/bin/sh\nkill -SEGV $$\n",
    "no program": "garbage",
    "of another machine": "\x7fELF but of no machine",
    "without its interpreter": "#!/no/such/interpreter\n",
}


@pytest.mark.parametrize("kind", UVS)
def test_a_uv_that_is_damaged_or_killed(start_serve, project, tmp_path, kind) -> None:
    uv = tmp_path / "bin" / "uv"
    uv.parent.mkdir()
    uv.write_text(UVS[kind])
    uv.chmod(0o755)
    serve = start_serve(env={"PATH": f"{uv.parent}:{os.environ['PATH']}"})
    folder = project(main__py="", requirements__txt="toy-one==1.0\n")
    digest = serve.project(folder)
    report = serve.run(order("1.1", digest, "main.py", environment=planned(folder)))
    assert (report["outcome"], report["at_fault"]) == BLAMED
    assert str(uv) in report["reason"]


@needs_uv
@pytest.mark.parametrize("damage", ["link", "settings", "all"])
def test_a_base_venv_that_is_damaged_is_made_anew(serve, project, tmp_path, damage) -> None:
    make_wheel(tmp_path / "wheels", "toy_one", "1.0", "value = 1\n")
    env = {"UV_NO_INDEX": "1", "UV_FIND_LINKS": str(tmp_path / "wheels"), "UV_CACHE_DIR": str(tmp_path / "cache")}
    folder = project(main__py="import toy_one", requirements__txt="toy_one==1.0\n")
    digest = serve.project(folder)
    assert serve.run(order("1.1", digest, "main.py", node_env=env, environment=planned(folder)))["outcome"] == "done"
    (base,) = (serve.home / "bases").iterdir()
    if damage == "link":
        (base / "bin" / "python").unlink()
    elif damage == "settings":
        (base / "pyvenv.cfg").write_bytes(b"")
    else:
        shutil.rmtree(base)
        base.mkdir()
    shutil.rmtree(serve.home / "venvs", ignore_errors=True)
    report = serve.run(order("2.1", digest, "main.py", node_env=env, environment=planned(folder)))
    assert report["outcome"] == "done", report["reason"]


@needs_uv
@pytest.mark.parametrize("damage", ["emptied", "cut", "gone"])
def test_a_cache_that_a_power_cut_damaged_is_not_installed_from(serve, project, tmp_path, damage) -> None:
    make_wheel(tmp_path / "wheels", "toy_one", "1.0", "value = 1\n" * 1000)
    env = {"UV_NO_INDEX": "1", "UV_FIND_LINKS": str(tmp_path / "wheels"), "UV_CACHE_DIR": str(tmp_path / "cache")}
    text = "toy_one==1.0\n"
    folder = project(main__py="import toy_one; print(toy_one.value)", requirements__txt=text)
    digest = serve.project(folder)
    assert serve.run(order("1.1", digest, "main.py", node_env=env, environment=planned(folder)))["outcome"] == "done"
    for mark in (serve.home / "cache" / "resolved").glob("*.boot"):
        mark.unlink()  # as after a restart of the machine
    shutil.rmtree(serve.home / "venvs", ignore_errors=True)
    cached = list((tmp_path / "cache").rglob("toy_one.py"))
    assert cached
    for path in cached:
        if damage == "emptied":
            os.truncate(path, 0)
        elif damage == "cut":
            os.truncate(path, 100)
        else:
            path.unlink()
    report = serve.run(order("2.1", digest, "main.py", node_env=env, environment=planned(folder)))
    assert report["outcome"] == "done", report["reason"] + serve.out("2.1", "env.log")
    assert serve.out("2.1") == "1\n"


def test_a_job_runs_what_was_submitted_though_another_wrote_into_it(serve: Serve, project: Callable[..., Path]) -> None:
    digest = serve.project(project(main__py="print('as submitted')"))
    poison = project(main__py="import sys; open(sys.argv[1], 'w').write('print(666)')")
    serve.run(order("1.1", serve.project(poison), "main.py", str(serve.home / "snapshots" / digest / "main.py")))
    report = serve.run(order("2.1", digest, "main.py"))
    assert (report["outcome"], report["at_fault"]) == ("prepare_failed", "node")
    assert "was changed" in report["reason"]
    with pytest.raises(AssertionError, match="no_snapshot"):
        serve.launch(order("2.2", digest, "main.py"))
    serve.project(project(main__py="print('as submitted')"))
    assert serve.run(order("2.3", digest, "main.py"))["outcome"] == "done"
    assert serve.out("2.3") == "as submitted\n"


def test_content_that_was_removed_after_the_launch_is_the_nodes_fault(tmp_path: Path) -> None:
    home = Home(str(tmp_path / "home"))
    home.make()
    with pytest.raises(NodeAtFaultError, match="changed or removed"):
        prepare.check_contents(home, {"digest": "0" * 64, "data": []})


def test_a_kept_venv_is_not_taken_after_a_restart_of_the_machine(tmp_path: Path) -> None:
    home = Home(str(tmp_path))
    kept = tmp_path / "venvs" / "key" / "1"
    (kept / "bin").mkdir(parents=True)
    folder = home.attempt("1.1")
    Path(folder.path).mkdir(parents=True)
    record = {"key": "key", "venv": "/old", "files": 1, "bytes": 1, "made_at_s": time.time(), "boot_id": boot_id()}
    for boot, is_taken in (("of another start", False), (boot_id(), True)):
        records.replace(f"{kept}/racksack.json", records.encode({**record, "boot_id": boot}))
        assert venv_reuse.take(folder, "key") is is_taken


def test_what_a_start_that_fails_means(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.sh").write_text("#!/no/such/shell\n")
    assert processes.start_fault(str(tmp_path / "job.sh"), OSError(2, "")) == "job"
    assert processes.start_fault("/usr/bin/gone", OSError(2, "")) == "node"
    assert processes.start_fault(str(tmp_path / "job.sh"), OSError(11, "")) == "node"
    assert processes.start_fault(str(tmp_path / "job.sh"), OSError(8, "")) == "job"
    (tmp_path / "venv-python").symlink_to("/usr/bin/gone-python")
    assert processes.start_fault(str(tmp_path / "venv-python"), OSError(2, "")) == "node"


@pytest.mark.parametrize(
    ("number", "at_fault"),
    [(5, "node"), (11, "node"), (24, "node"), (2, "node"), (28, "node"), (36, "job"), (40, "job")],
)
def test_what_an_error_while_preparing_means(monkeypatch, number, at_fault) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(prepare, "_prepare", fail)
    with pytest.raises(prepare.PrepareError) as raised:
        prepare.prepare(None, {}, StopRequest(os.devnull, None))  # type: ignore[arg-type]
    assert raised.value.at_fault == at_fault
