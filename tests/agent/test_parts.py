"""Small parts by themselves: records, cores, signals, logins, copies."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from racksack_agent import private_tmp, records, sessions
from racksack_agent.home import Home
from racksack_agent.problems import PrepareError
from racksack_agent.serve import cores, fetching, logins
from racksack_agent.supervisor import copying, signals
from racksack_agent.supervisor.end import StopRequest
from racksack_agent.supervisor.terminal_echo import Echo
from tests.agent.processes import listed


def test_a_record_is_whole_or_absent(tmp_path):
    path = str(tmp_path / "record")
    assert records.read(path) is None
    records.replace(path, b'{"a": 1}')
    assert records.read(path) == {"a": 1}
    (tmp_path / "record").write_text('{"a": ')
    assert records.read(path) is None
    assert listed(tmp_path) == ["record"]


def test_news_go_to_all_that_listen_and_to_no_others(tmp_path):
    for name in ("one.pipe", "dead.pipe"):
        os.mkfifo(tmp_path / name)
    listening = os.open(tmp_path / "one.pipe", os.O_RDWR | os.O_NONBLOCK)
    records.tell(str(tmp_path), "1.1")
    records.tell(str(tmp_path / "nonexistent"), "1.1")
    assert os.read(listening, 100) == b"1.1\n"
    assert listed(tmp_path) == ["one.pipe"]
    os.write(listening, b"x" * 65536)
    records.tell(str(tmp_path), "1.1")  # the pipe is full: it is passed over, nobody waits
    os.close(listening)


@pytest.mark.parametrize(
    ("free", "cpus", "chosen"),
    [
        ([0, 1, 2, 3], 2, [0, 1]), ([0, 2, 3], 2, [2, 3]), ([0, 2, 4], 2, [0, 2]), ([0, 1], 2.0, [0, 1]),
        ([0, 1], 3, []),
        ([0, 1], 0.5, []), ([0, 1], 1.5, []), ([], 1, []), ([0, 1], 0, []),
    ],
)  # fmt: skip
def test_choosing_cores(free, cpus, chosen):
    assert cores.pick(free, cpus) == chosen


@pytest.mark.parametrize(("name", "number"), [("TERM", 15), ("SIGINT", 2), ("usr1", 10), ("9", 9)])
def test_names_of_signals(name, number):
    assert signals.number_of(name) == number


@pytest.mark.parametrize("name", ["", "NOSUCH", "0", "-1", "999", "_BLOCK", "IG_DFL"])
def test_what_is_no_signal(name):
    with pytest.raises(ValueError, match="there is no signal"):
        signals.number_of(name)


def test_logins_are_people_and_not_panes(tmp_path):
    record = struct.Struct("hi32s4s32s256shhiii4i20x")

    def entry(kind, host):
        return record.pack(kind, 1, b"pts/0", b"", b"user", host, 0, 0, 0, 0, 0, 0, 0, 0, 0)

    entries = [
        entry(2, b""),
        entry(7, b"laptop.example"),
        entry(7, b""),
        entry(7, b"tmux(12).%0"),
        entry(7, b":pts/1:S.0"),
        entry(8, b""),
    ]
    path = tmp_path / "utmp"
    path.write_bytes(b"".join(entries))
    assert logins.count_logins(str(path)) == 2
    assert logins.count_logins(str(tmp_path / "none")) == 0


def test_large_files_are_copied_whole(tmp_path):
    data = os.urandom(1 << 20) + bytes(3 << 20) + b"end"
    (tmp_path / "a").write_bytes(data)
    (tmp_path / "a").chmod(0o755)
    copying.copy_file(str(tmp_path / "a"), str(tmp_path / "b"))
    assert (tmp_path / "b").read_bytes() == data
    assert os.access(tmp_path / "b", os.X_OK)
    if Path("/dev/shm").is_dir():  # another file system
        target = f"/dev/shm/racksack-test-{os.getpid()}"
        copying.copy_file(str(tmp_path / "a"), target)
        with open(target, "rb") as file:
            assert file.read() == data
        Path(target).unlink()


def test_a_copy_heeds_a_stop(tmp_path):
    (tmp_path / "a").mkdir()
    stop = StopRequest(str(tmp_path / "stop.json"), Echo("", None))
    stop.reason = "cancelled"
    done: list[object] = []

    def copy():  # in a thread of its own: looking for signals must not take those of the test
        try:
            copying.copy_tree(str(tmp_path / "a"), str(tmp_path / "b"), stop)
        except PrepareError as problem:
            done.append(str(problem))

    thread = threading.Thread(target=copy)
    thread.start()
    thread.join()
    assert done == ["it was cancelled"]


def test_a_folder_too_large_to_send_inline(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 5000)
    assert fetching.pack(str(tmp_path), 4000) is None
    assert fetching.pack(str(tmp_path), 100_000) is not None


def test_the_socket_folder_of_somebody_else_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sessions.os, "getuid", lambda: 4_000_000_000 + os.getpid())
    path = f"/tmp/racksack-{sessions.os.getuid()}"
    with pytest.raises(PermissionError, match="must be a folder of this user"):
        private_tmp.folder()
    Path(path).rmdir()


def test_the_sockets_path_is_short_however_long_the_home(tmp_path):
    home = Home(str(tmp_path / ("x" * 200)))
    opened = sessions.open_sessions(home, None)
    assert opened is not None
    assert len(opened.socket) < 107


def test_a_batch_of_sessions_fits_what_tmux_takes():
    parts = {f"{number}.1": ["x" * 100] * 10 for number in range(100)}
    batches = sessions._batches(parts)
    assert sum(map(len, batches)) == 100
    assert all(sum(len(word) + 1 for words in batch.values() for word in words) < 16_000 for batch in batches)


def test_a_program_finds_its_signals_as_they_are_by_default(tmp_path):
    """However the controller was started: from a shell with &, under nohup."""
    script = (
        "import os, signal\n"
        "from racksack_agent import processes\n"
        "for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM):\n"
        "    signal.signal(number, signal.SIG_IGN)\n"
        "pid = processes.spawn(['/bin/grep', 'SigIgn', '/proc/self/status'], {}, (0, 1, 2))\n"
        "os.waitpid(pid, 0)\n"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert int(said.split()[1], 16) & 0x7FFFFFFF == 0  # beyond are the C library's own
