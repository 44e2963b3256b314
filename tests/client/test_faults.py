"""Half-finished uploads, full disks, unreadable files and foreign users: what is said and what is left."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from tests.client.conftest import Cli
from tests.client.stand_in import StandIn

from racksack.transport.target import cache_folder

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root")
NOBODY = 65534


def test_a_broken_upload_goes_on_where_it_stopped(
    cli: Cli, controller: StandIn, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An rsync that is slow and dies after a second, as when the VPN goes."""
    (project / "big.bin").write_bytes(os.urandom(5_000_000))
    programs = tmp_path / "bin"
    programs.mkdir()
    script = '/usr/bin/rsync --bwlimit=1000 "$@" & sleep 1; kill $!; wait $!; exit 12'
    (programs / "rsync").write_text(f"#!/bin/sh\n{script}\n")
    (programs / "rsync").chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        broken = cli("submit", project, "main.py")
    assert broken.code == 7
    assert "the connection broke" in broken.err
    assert "repeat the command" in broken.err
    assert not controller.jobs
    (upload,) = (controller.spool / "incoming").iterdir()
    (upload / ".big.bin.KZUYuW").write_bytes(b"left by an rsync that was killed")
    shutil.copy2(project / "main.py", upload / "main.py")
    inode = (upload / "main.py").stat().st_ino
    facts = cli("submit", project, "main.py", "--json").json
    assert facts["jobs"] == [1]
    taken = controller.spool / "snapshots" / controller.jobs[1]["snapshot"]
    assert (taken / "main.py").stat().st_ino == inode, "what had arrived was not sent again"
    assert {spec.digest for spec in controller.specs} == {controller.jobs[1]["snapshot"]}
    assert not list((controller.spool / "incoming").iterdir())
    assert not list((cache_folder() / "uploads").iterdir())


def test_two_submissions_of_one_content_do_not_share_an_upload(project: Path) -> None:
    from racksack.submission.upload import upload_of
    from racksack.transport.target import Target

    target = Target("/srv/spool")
    with upload_of(target, "d") as first, upload_of(target, "d") as second:
        assert first.name != second.name
    with upload_of(target, "d") as third:
        assert third.name not in (first.name, second.name)
        assert third.unfinished == ()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@needs_root
def test_a_full_disk_here_is_said_and_leaves_nothing_half(cli: Cli, controller: StandIn, tiny_disk: Path) -> None:
    number = controller.add_job("big", "running")
    controller.finish(number, files={"big.bin": os.urandom(3_000_000)})
    ended = cli("fetch-results", "-o", tiny_disk / "results")
    assert ended.code == 7
    assert "No space left on device" in ended.err
    assert not (tiny_disk / "results/1-big").exists()
    assert not controller.jobs[1].get("fetched")
    elsewhere = tiny_disk.parent / "results"
    assert cli("fetch-results", "-o", elsewhere).code == 0


@needs_root
def test_a_full_disk_there_is_said_and_nothing_is_handed_in(
    cli: Cli, controller: StandIn, project: Path, tiny_disk: Path
) -> None:
    (controller.spool / "incoming").rmdir()
    (controller.spool / "incoming").symlink_to(tiny_disk)
    (project / "big.bin").write_bytes(os.urandom(3_000_000))
    ended = cli("submit", project, "main.py")
    assert ended.code == 7
    assert "No space left on device" in ended.err
    assert not controller.jobs


@needs_root
def test_unreadable_files_are_named_to_a_user_who_is_not_root() -> None:
    """In a process of another user, since root may read everything."""
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o755)
        (folder / "main.py").write_text("")
        (folder / "secret").write_text("x")
        (folder / "secret").chmod(0)
        (folder / "closed").mkdir(mode=0)
        text = (
            "import os, sys; from pathlib import Path\n"
            "from racksack.submission.project import select; from racksack.errors import ProjectError\n"
            f"os.setuid({NOBODY})\n"
            "try: select(Path(sys.argv[1]))\n"
            "except ProjectError as error: print(error)\n"
        )
        done = subprocess.run([sys.executable, "-c", text, folder], capture_output=True, text=True, check=True)
    finally:
        shutil.rmtree(folder)
    assert "secret cannot be read; allow it, or leave it out with --exclude" in done.stdout
    assert "the folder closed cannot be read (Permission denied)" in done.stdout


def test_a_file_that_vanishes_while_it_is_read_is_one_sentence(
    cli: Cli, controller: StandIn, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from racksack.submission import hash_cache

    original = hash_cache.read_entries

    def vanish(root: Path, paths: Iterable[bytes]) -> object:
        (project / "data/prices.bin").unlink(missing_ok=True)
        return original(root, paths)

    monkeypatch.setattr(hash_cache, "read_entries", vanish)
    ended = cli("submit", project, "main.py")
    assert ended.code == 1
    assert "data/prices.bin cannot be read: No such file or directory; it changed" in ended.err


def test_without_rsync_the_package_is_named(
    cli: Cli, controller: StandIn, project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    ended = cli("submit", project, "main.py")
    assert ended.code == 1
    assert "install the rsync package" in ended.err


def test_a_cache_that_cannot_be_used_costs_time_only(
    cli: Cli, controller: StandIn, project: Path, private_home: Path
) -> None:
    (private_home / "cache/racksack").mkdir(parents=True)
    (private_home / "cache/racksack/projects").write_text("in the way")
    assert cli("submit", project, "main.py").code == 0
    (private_home / "cache/racksack/projects").unlink()
    assert cli("submit", project, "main.py").code == 0
    (file,) = (private_home / "cache/racksack/projects").iterdir()
    file.write_bytes(b"damaged")
    assert cli("submit", project, "main.py").code == 0
    shutil.rmtree(private_home / "cache")
    (private_home / "cache").write_text("in the way")
    (project / "new").write_text("to be sent")
    assert cli("submit", project, "main.py").code == 0


def test_the_cache_notices_every_change(project: Path) -> None:
    """Also one that keeps size and modification time, and one right after the file was read."""
    from racksack.submission import hash_cache
    from racksack.submission.project import select
    from racksack_jobspecs.snapshot import digest_of, manifest_of

    known = hash_cache.Remembered()
    file = project / "main.py"
    for text in ("aaaa", "bbbb", "cccc"):
        file.write_text(text)
        os.utime(file, (1, 1))
        assert hash_cache.digest(select(project), known) == digest_of(manifest_of(project))
    file.chmod(0o755)
    assert hash_cache.digest(select(project), known) == digest_of(manifest_of(project))


def test_what_did_not_change_is_not_read_again(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from racksack.submission import hash_cache
    from racksack.submission.project import select

    monkeypatch.setattr(hash_cache, "_RACY_NS", -(10**12))  # files of this moment count as settled
    known = hash_cache.Remembered()
    first = hash_cache.digest(select(project), known)
    hash_cache.remember(project, known)
    read: list[int] = []
    assert hash_cache.digest(select(project), hash_cache.recall(project), read.append) == first
    assert not read
