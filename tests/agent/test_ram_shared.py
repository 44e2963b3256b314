"""The copy in memory that runners of sweeps share, in the real /dev/shm: made once, checked, replaced, taken away."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from racksack_agent.home import AttemptFolder, Home
from racksack_agent.problems import PrepareError
from racksack_agent.supervisor import ram_shared, ramdisk
from tests.agent.processes import kill_all_that_watch, wait_until
from tests.agent.serving import Serve
from tests.agent.sweeps import Sweep, function, grid

MIB = 1 << 20
READ = """
import os
def f(x):
    path = os.environ["RACKSACK_RAM_DIR"] + "/data/prices"
    with open(path, "rb") as file:
        return {"good": file.read() == b"price" * 1000000, "inode": os.stat(path).st_ino}
"""


@pytest.fixture
def memory(home: Path) -> Iterator[Path]:
    """The home's folder in memory."""
    path = Path(ramdisk.home_folder(Home(str(home))))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def reader(project: Callable[..., Path]) -> Path:
    """A project that reads 5 MB from memory."""
    folder = project(f__py=READ)
    (folder / "data").mkdir()
    (folder / "data/prices").write_bytes(b"price" * 1000000)
    return folder


def begin(serve: Serve, folder: Path, attempt: str) -> Sweep:
    space = grid(x=list(range(10)))
    return Sweep(serve, folder, function("f.py", "f"), space, slots=1, attempt=attempt, stage_in_ram=["data"])


def read(sweep: Sweep, points: int = 1) -> int:
    """Have one more point read the data; the inode of its file."""
    sweep.feed(points, ranges=[[points - 1, points]])
    sweep.until(points)
    row = sweep.results()[points - 1]
    assert row["good"] is True
    return int(row["inode"])


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def staged(memory: Path) -> list[Path]:
    """The folder of each content."""
    return [path for path in (memory / "shared").iterdir() if not path.name.startswith(".")]


def test_two_at_once_copy_once_and_the_last_one_takes_it_away(serve, memory, reader):
    first, second = (begin(serve, reader, name) for name in ("1.1", "2.1"))
    assert read(first) == read(second)
    [key] = staged(memory)
    assert names_in(key / "users") == ["1.1", "2.1"]
    assert (memory.stat().st_mode & 0o777, (key / "copy/data/prices").stat().st_mode & 0o222) == (0o700, 0)
    for sweep in (first, second):
        sweep.until_all_workers_are_up()
        assert sweep.of_kind("ready")[0]["ram"] == {"checksum": key.name, "bytes": 5000000}
    assert first.finish()["outcome"] == "done"
    assert names_in(key / "users") == ["2.1"]
    assert read(second, 2)
    assert second.finish()["outcome"] == "done"
    assert not memory.exists()


def test_one_that_is_killed_leaves_it_to_the_other(serve, memory, reader):
    first, second = (begin(serve, reader, name) for name in ("1.1", "2.1"))
    inode = read(first)
    assert read(second) == inode
    kill_all_that_watch(serve.home, "1.1")
    assert serve.ended("1.1")["outcome"] == "lost"
    assert read(second, 2) == inode
    kill_all_that_watch(serve.home, "2.1")
    assert serve.ended("2.1")["outcome"] == "lost"
    assert not memory.exists()


def test_one_that_is_stopped_takes_it_away(serve, memory, reader):
    sweep = begin(serve, reader, "1.1")
    read(sweep)
    assert staged(memory)
    serve.call("stop", attempt="1.1", reason="cancelled", grace_s=1)
    assert serve.ended("1.1")["outcome"] == "cancelled"
    assert not memory.exists()


def test_a_copy_that_is_spoilt_is_replaced(serve, memory, reader):
    first = begin(serve, reader, "1.1")
    inode = read(first)
    [key] = staged(memory)
    spoilt = key / "copy/data/prices"
    spoilt.chmod(0o600)
    with spoilt.open("r+b") as file:
        file.seek(4000000)
        file.write(b"x")
    second = begin(serve, reader, "2.1")
    assert read(second) != inode
    assert read(first, 2) != inode, "the one that was there before reads the good one, too"
    assert len(list(key.glob("copy-*"))) == 1
    first.finish()
    second.finish()
    assert not memory.exists()


def test_memory_that_was_lost_is_filled_again_by_the_next_runner(serve, memory, reader):
    first = begin(serve, reader, "1.1")
    read(first)
    shutil.rmtree(memory)  # as after a restart of the node
    second = begin(serve, reader, "2.1")
    read(second)
    second.finish()
    first.finish()
    assert not memory.exists()


def test_what_a_crash_left_goes_when_the_agent_starts(home, memory, start_serve):
    key = memory / "shared" / ("0" * 64)
    (key / "users").mkdir(parents=True)
    (key / "users/7.1").touch()
    (key / "copy-1-2").mkdir()
    (memory / "shared/.1111-3-4/users").mkdir(parents=True)
    serve = start_serve()
    serve.call("reports")
    wait_until(lambda: not memory.exists())


class Heedless:
    """A stop request that never comes; it does something whenever it is looked for."""

    def __init__(self, act: Callable[[], None] = lambda: None) -> None:
        self._act = act

    def check(self, wait_s: float = 0.0) -> None:
        self._act()


def attempt_of(home: Path, name: str, data: bytes) -> AttemptFolder:
    folder = Home(str(home)).attempt(name)
    (Path(folder.work) / "data").mkdir(parents=True)
    (Path(folder.work) / "data/x").write_bytes(data)
    (Path(folder.work) / "data/y").symlink_to("x")
    return folder


def test_one_that_is_killed_while_it_copies_leaves_nothing_that_is_taken_for_whole(home, memory):
    def die_while_copying() -> None:
        if list(memory.glob("shared/*/copy-*/data")):
            os.kill(os.getpid(), signal.SIGKILL)

    first, second = (attempt_of(home, name, b"x" * MIB) for name in ("1.1", "2.1"))
    child = os.fork()
    if not child:
        ram_shared.stage(first, ["data"], Heedless(die_while_copying))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    [key] = staged(memory)
    assert list(key.glob("copy-*"))
    assert not (key / "copy").exists()
    shared = ram_shared.stage(second, ["data", "data/x"], Heedless())
    assert Path(shared.folder, "data/x").read_bytes() == b"x" * MIB
    assert Path(shared.folder, "data/y").readlink() == Path("x")
    ram_shared.leave(second)
    assert staged(memory) == [key], "the first one has not been settled yet"
    ram_shared.leave(first)
    assert not list(memory.glob("shared/*"))


def test_a_folder_of_somebody_else_is_not_used(home, memory, tmp_path):
    memory.symlink_to(tmp_path)
    try:
        with pytest.raises(PrepareError, match="belongs to another user"):
            ram_shared.stage(attempt_of(home, "1.1", b"x"), ["data"], Heedless())
    finally:
        memory.unlink()


FILL = """
import os, sys
sys.path[:0] = sys.argv[2:]
from racksack_agent.supervisor import ram_shared
from racksack_agent.home import Home
from racksack_agent.problems import PrepareError
class Never:
    def check(self, wait_s=0.0): pass
try:
    ram_shared.stage(Home(sys.argv[1]).attempt("1.1"), ["data"], Never())
except PrepareError as problem:
    print(problem)
for here, _, names in os.walk("/dev/shm"):
    assert not [name for name in names if name == "x"], here
"""


def test_memory_that_is_full_is_told_in_a_sentence(home):
    attempt_of(home, "1.1", b"x" * 3 * MIB)
    small = 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$@"'
    command = ["unshare", "-rm", "sh", "-c", small, "sh", sys.executable, "-c", FILL, str(home), *sys.path]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (
        "/dev/shm was full while data (3 MiB) was copied to memory; free some of it, or copy less"
    )


REPLACE = """
import os, sys
sys.path[:0] = sys.argv[2:]
from racksack_agent.supervisor import ram_shared
from racksack_agent.home import Home
from racksack_agent.problems import NodeAtFaultError
class Never:
    def check(self, wait_s=0.0): pass
def stage(name):
    return ram_shared.stage(Home(sys.argv[1]).attempt(name), ["data"], Never()).folder + "/data/x"
def is_good(path):
    with open(path, "rb") as file:
        return file.read() == b"x" * (3 << 20)
def copies(path):
    return [name for name in os.listdir(path.partition("/copy/")[0]) if name.startswith("copy-")]
path = stage("1.1")
os.chmod(path, 0o600)
with open(path, "r+b") as file:
    file.write(b"spoilt")
with open("/dev/shm/other", "wb") as file:
    file.write(b"y" * (2 << 20))
try:
    stage("2.1")
    print("a copy for which there was no room")
except NodeAtFaultError as problem:
    print(problem)
print(is_good(path), len(copies(path)))
os.unlink("/dev/shm/other")
print(stage("2.1") == path, is_good(path), len(copies(path)))
for name in ("1.1", "2.1"):
    ram_shared.leave(Home(sys.argv[1]).attempt(name))
print(os.listdir("/dev/shm"))
"""


def test_a_copy_that_is_to_be_replaced_while_memory_is_full_stays_until_there_is_room(home):
    for name in ("1.1", "2.1"):
        attempt_of(home, name, b"x" * 3 * MIB)
    small = 'mount -t tmpfs -o size=7m tmpfs /dev/shm && exec "$@"'
    command = ["unshare", "-rm", "sh", "-c", small, "sh", sys.executable, "-c", REPLACE, str(home), *sys.path]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "/dev/shm was full while data (3 MiB) was copied to memory; free some of it, or copy less",
        "False 1",  # nobody takes it for good, and the half of a new one went
        "True True 1",
        "[]",
    ]
