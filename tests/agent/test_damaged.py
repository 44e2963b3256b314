"""What a power cut, a full disk or a bad sector leaves: one attempt's trouble, content that is sent again."""

from __future__ import annotations

import json
import os
import resource
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from racksack_agent import durable, records, verified
from racksack_agent.digest import digest_and_size
from racksack_agent.home import Home
from racksack_agent.serve import executable
from racksack_agent.serve.attempts import Attempts
from racksack_agent.serve.snapshots import Snapshots
from racksack_agent.supervisor.end import StopRequest
from racksack_agent.supervisor.terminal_echo import Echo

BOOT = "this-boot"
LAUNCH = {
    "attempt": "1.1", "boot_id": BOOT, "digest": "0" * 64, "limit": {"kind": "watch", "path": ""}, "cpu_ids": [],
    "launched_at_s": 0.0, "max_output_bytes": 1 << 30, "sweep": None,
}  # fmt: skip
FINAL = {
    "attempt": "1.1", "state": "ended", "boot_id": BOOT, "outcome": "done", "exit_code": 0, "output_files": 0,
    "output_bytes": 0,
}  # fmt: skip
STATE = {"attempt": "1.1", "state": "running", "boot_id": BOOT}


def empty(path: Path) -> None:
    path.write_bytes(b"")


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zeros(path: Path) -> None:
    path.write_bytes(b"\0" * path.stat().st_size)


def another_type(path: Path) -> None:
    path.write_text("[1, 2, 3]")


def flipped_key(path: Path) -> None:
    path.write_text(path.read_text().replace('"boot_id"', '"boot_ie"').replace('"state"', '"stave"'))


def of_another(path: Path) -> None:
    path.write_text(path.read_text().replace("1.1", "7.7"))


def deep(path: Path) -> None:
    path.write_text("[" * 200_000)


def a_folder(path: Path) -> None:
    path.unlink()
    (path / "inside").mkdir(parents=True)


DAMAGES = [empty, half, zeros, another_type, flipped_key, of_another, deep, a_folder]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(str(tmp_path / "home"))
    for path in (home.snapshots, home.attempts, home.incoming, home.run):
        Path(path).mkdir(parents=True)
    return home


def attempt(home: Home, name: str, **files: dict[str, Any]) -> Path:
    """An attempt's folder that has been there for a while, with these records."""
    folder = Path(home.attempts) / name
    (folder / "out").mkdir(parents=True)
    for kind, record in files.items():
        (folder / f"{kind}.json").write_text(json.dumps({**record, "attempt": name}))
    (folder / "lock").write_text("")
    os.utime(folder, (time.time() - 3600, time.time() - 3600))
    return folder


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("record", ["exit", "launch", "state"])
def test_a_damaged_record_is_one_attempts_trouble(home: Home, record: str, damage: Any) -> None:
    attempt(home, "2.1", launch=LAUNCH, exit=FINAL)
    files = {"launch": LAUNCH, **({"exit": FINAL} if record == "exit" else {}), "state": STATE}
    folder = attempt(home, "1.1", **files)
    damage(folder / f"{record}.json")
    os.utime(folder, (0, 0))
    attempts = Attempts(home, BOOT, None)
    attempts.reports()  # never raises
    attempts.rescan()
    reports = {report["attempt"]: report for report in attempts.reports()}
    assert reports["2.1"]["outcome"] == "done"
    assert (reports["1.1"]["state"], reports["1.1"]["outcome"]) == ("ended", "lost")
    assert reports["1.1"]["reason"]
    again = {report["attempt"]: report for report in Attempts(home, BOOT, None).reports()}
    assert again == reports, "and so it is for the next one who looks"


def test_what_is_no_attempt_is_left_alone(home: Home) -> None:
    attempt(home, "2.1", launch=LAUNCH, exit=FINAL)
    (Path(home.attempts) / "core").write_text("dumped")
    (Path(home.attempts) / "5.1").write_text("a file with the name of an attempt")
    (Path(home.attempts) / "lost+found").mkdir()
    attempts = Attempts(home, BOOT, None)
    attempts.rescan()
    assert [report["attempt"] for report in attempts.reports()] == ["2.1"]


@pytest.mark.parametrize("damage", [empty, half, zeros, Path.unlink], ids=["emptied", "cut", "zeroed", "gone"])
def test_content_is_read_again_before_its_first_use_after_a_restart(home: Home, damage: Any) -> None:
    arrived = Path(home.incoming) / "new"
    (arrived / "sub").mkdir(parents=True)
    (arrived / "sub" / "main.py").write_text("print('hello')\n" * 100)
    digest, _ = digest_and_size(str(arrived))
    shutil.copytree(arrived, Path(home.incoming) / "again")
    Snapshots(home, "first-boot").adopt(digest, "new")
    assert Snapshots(home, "first-boot").has(digest)
    damage(Path(home.snapshots) / digest / "sub" / "main.py")
    after = Snapshots(home, "second-boot")
    assert not after.has(digest), "it is asked for again"
    assert not (Path(home.snapshots) / digest).exists()
    after.adopt(digest, "again")
    assert Snapshots(home, "second-boot").has(digest)


def test_whole_content_is_read_once_after_a_restart(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    arrived = Path(home.incoming) / "new"
    arrived.mkdir()
    (arrived / "a").write_text("x")
    digest, _ = digest_and_size(str(arrived))
    Snapshots(home, "first-boot").adopt(digest, "new")
    assert Snapshots(home, "second-boot").has(digest)
    monkeypatch.setattr(verified.content, "digest_and_size", None)
    assert Snapshots(home, "second-boot").has(digest), "it is not read again"
    assert Snapshots(home, "second-boot").is_ready(digest)
    assert not Snapshots(home, "third-boot").is_ready(digest)


def write_into(content: Path) -> None:
    with open(content / "sub" / "a", "r+b") as file:
        file.write(b"y")


def add_to(content: Path) -> None:
    (content / "sub" / "sitecustomize.py").write_text("import os")


def replace_in(content: Path) -> None:
    (content / "new").write_text("y")
    (content / "new").rename(content / "sub" / "a")


def take_from(content: Path) -> None:
    (content / "sub" / "a").unlink()


def allow_to_run(content: Path) -> None:
    (content / "sub" / "a").chmod(0o755)


@pytest.mark.parametrize("change", [write_into, add_to, replace_in, take_from, allow_to_run])
def test_content_that_a_job_changed_is_noticed(home: Home, change: Any) -> None:
    arrived = Path(home.incoming) / "new"
    (arrived / "sub").mkdir(parents=True)
    (arrived / "sub" / "a").write_text("x")
    (arrived / "sub" / "a").chmod(0o644)
    digest, _ = digest_and_size(str(arrived))
    snapshots = Snapshots(home, BOOT)
    snapshots.adopt(digest, "new")
    content = Path(snapshots.path(digest))
    assert verified.is_unchanged(str(content), BOOT)
    os.link(content / "sub" / "a", Path(home.incoming) / "another name")
    assert verified.is_unchanged(str(content), BOOT), "a further name changes nothing"
    change(content)
    assert not verified.is_unchanged(str(content), BOOT)
    assert not snapshots.has(digest)
    assert not content.exists()


def test_a_short_write_goes_on_or_is_a_full_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    as_it_is = os.write
    monkeypatch.setattr(os, "write", lambda file, data: as_it_is(file, bytes(data)[:3]))
    with open(tmp_path / "file", "wb") as file:
        durable.write_all(file.fileno(), b"0123456789")
    assert (tmp_path / "file").read_bytes() == b"0123456789"
    monkeypatch.setattr(os, "write", lambda file, data: 0)
    with open(tmp_path / "file", "wb") as file, pytest.raises(OSError, match="No space"):
        durable.write_all(file.fileno(), b"x")


@pytest.mark.parametrize("damage", [empty, half, zeros])
def test_a_program_that_is_not_whole_is_not_used(tmp_path: Path, damage: Any) -> None:
    program = tmp_path / "uv"
    shutil.copyfile("/bin/ls", program)
    assert executable.is_whole(str(program))
    damage(program)
    assert not executable.is_whole(str(program))
    program.write_text("#!/bin/sh\nexit 0\n")
    assert executable.is_whole(str(program))


def test_a_flipped_bit_in_a_record_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "exit.json"
    record = {"attempt": "1.1", "outcome": "done", "output_bytes": 12345, "reason": "\u00e4"}
    data = records.encode(record)
    path.write_bytes(data)
    assert records.read(str(path)) == record
    for place in range(len(data) - records._SUM_BITS - 1):
        for bit in range(8):
            path.write_bytes(data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :])
            assert records.read(str(path)) is None, (place, bit)
    path.write_bytes(json.dumps(record).encode())
    assert records.read(str(path)) == record, "a version that wrote no checksum"


def test_a_record_that_cannot_be_read_for_want_of_descriptors_is_not_damaged(home: Home) -> None:
    attempt(home, "1.1", launch=LAUNCH, state=STATE)
    attempts = Attempts(home, BOOT, None)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            attempts.report("1.1")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert attempts.report("1.1")["state"] == "running"


@pytest.mark.parametrize("damage", [empty, half, zeros, another_type, lambda path: path.write_text('{"grace_s": "x"}')])
def test_a_damaged_request_to_stop_still_ends_the_attempt(tmp_path: Path, damage: Any) -> None:
    path = tmp_path / "stop.json"
    stop = StopRequest(str(path), Echo("", None))
    assert not stop.read()
    path.write_bytes(records.encode({"reason": "fenced", "grace_s": 1.0, "signal": "INT"}))
    damage(path)
    assert stop.read()
    assert stop.outcome == "cancelled"
