"""Archives from a node that lies."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from racksack_controller.nodes import links
from racksack_controller.nodes.unpack import UnsafeArchive, pack, unpack


def archive(*members: tuple[str, bytes, str, bytes], compress: bool = False) -> bytes:
    """An archive of (name, type, link name, content)."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz" if compress else "w", errors="surrogateescape") as tar:
        for name, kind, linkname, content in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size, member.mode = kind, linkname, len(content), 0o7755
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def file(name: str, content: bytes = b"x") -> tuple[str, bytes, str, bytes]:
    return (name, tarfile.REGTYPE, "", content)


def link(name: str, target: str) -> tuple[str, bytes, str, bytes]:
    return (name, tarfile.SYMTYPE, target, b"")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "in" / "target"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "..", "a/..", "./../x"])
def test_a_name_that_leads_out_is_refused_and_nothing_is_written(target: Path, name: str) -> None:
    with pytest.raises(UnsafeArchive, match="leads out"):
        unpack(archive(file(name, b"evil")), target)
    assert [path for path in target.parent.rglob("*") if path.is_file()] == []


def test_nothing_is_written_through_a_link(target: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    unpack(archive(file("a/one"), link("door", str(outside)), file("b/two")), target)
    with pytest.raises(UnsafeArchive, match="twice"):
        unpack(archive(link("way", str(outside)), file("way/evil")), target)
    assert list(outside.iterdir()) == []
    links.settle(target)
    assert not (target / "door").is_symlink()


def test_one_name_twice_is_refused(target: Path) -> None:
    with pytest.raises(UnsafeArchive, match="twice"):
        unpack(archive(file("a", b"1"), file("a", b"2")), target)


def test_a_file_in_place_of_a_folder_is_an_error_and_not_a_crash(target: Path) -> None:
    with pytest.raises((UnsafeArchive, OSError)):
        unpack(archive(file("a", b"1"), file("a/b", b"2")), target)


def test_devices_and_pipes_are_left_out_with_a_note(target: Path) -> None:
    notes = unpack(
        archive(
            ("null", tarfile.CHRTYPE, "", b""), ("disk", tarfile.BLKTYPE, "", b""), ("p", tarfile.FIFOTYPE, "", b"")
        ),
        target,
    )
    assert len(notes) == 3
    assert list(target.iterdir()) == []


def test_hard_links_become_files_of_their_own(target: Path) -> None:
    unpack(archive(file("a", b"content"), ("b", tarfile.LNKTYPE, "a", b"")), target)
    assert (target / "b").read_bytes() == b"content"
    assert (target / "b").stat().st_nlink == 1


@pytest.mark.parametrize("linkname", ["/etc/hostname", "../../etc/hostname", "nothing"])
def test_a_hard_link_to_somewhere_else_is_refused(target: Path, linkname: str) -> None:
    with pytest.raises(UnsafeArchive):
        unpack(archive(("b", tarfile.LNKTYPE, linkname, b"")), target)


def test_special_bits_are_not_taken_over(target: Path) -> None:
    unpack(archive(file("a"), compress=True), target)
    assert (target / "a").stat().st_mode & 0o7000 == 0
    assert (target / "a").stat().st_mode & 0o100


def test_damaged_archives_raise_what_the_caller_expects(target: Path) -> None:
    whole = archive(file("a", b"x" * 5000), compress=True)
    for data in (b"", b"nonsense" * 100, whole[: len(whole) // 2], b"\0" * 1024):
        try:
            unpack(data, target)
        except (tarfile.TarError, UnsafeArchive, OSError, EOFError):
            continue


def test_what_is_packed_comes_out_the_same(target: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub" / "empty").mkdir(parents=True)
    (source / "run.sh").write_text("#!/bin/sh\n")
    (source / "run.sh").chmod(0o755)
    (source / "same").write_text("same")
    os.link(source / "same", source / "sub" / "same")
    (source / "link").symlink_to("sub/same")
    odd = os.fsencode(source) + b"/caf\xe9\n'\"$(x)"
    Path(os.fsdecode(odd)).write_bytes(b"odd")

    unpack(pack(source), target)
    links.settle(target)

    assert (target / "sub" / "empty").is_dir()
    assert (target / "run.sh").stat().st_mode & 0o100
    assert (target / "link").readlink() == Path("sub/same")
    assert (target / "sub" / "same").read_text() == "same"
    assert (target / os.fsdecode(b"caf\xe9\n'\"$(x)")).read_bytes() == b"odd"
