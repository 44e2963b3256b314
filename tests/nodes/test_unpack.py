"""Archives from a node that lies."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tarfile
from pathlib import Path

import pytest

from racksack_controller.nodes import links
from racksack_controller.nodes.tar_reader import DamagedArchive
from racksack_controller.nodes.unpack import Room, TooMuch, UnsafeArchive, pack
from racksack_controller.nodes.unpack import unpack as unpack_within


def unpack(data: bytes, target: Path, files: int = 100, size: int = 2**20) -> list[str]:
    return unpack_within(data, target, Room(files, size))


def archive(*members: tuple[str, bytes, str, bytes]) -> bytes:
    """An archive of (name, type, link name, content)."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", errors="surrogateescape") as tar:
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


@pytest.mark.parametrize("linkname", ["a", "/etc/hostname", "../../etc/hostname", "nothing"])
def test_a_hard_link_is_refused(target: Path, linkname: str) -> None:
    with pytest.raises(UnsafeArchive, match="hard link"):
        unpack(archive(file("a"), ("b", tarfile.LNKTYPE, linkname, b"")), target)


def test_more_than_was_announced_is_not_written(target: Path) -> None:
    with pytest.raises(TooMuch):
        unpack(archive(file("a", b"x" * 600), file("b", b"x" * 600)), target, files=2, size=1000)
    assert not (target / "b").exists()
    with pytest.raises(TooMuch):
        unpack(archive(*(file(f"f{n}") for n in range(20))), target, files=3)
    assert len(list(target.iterdir())) <= 4


def header(size: bytes, kind: bytes = b"0", name: bytes = b"f") -> bytes:
    """One header with a right checksum and whatever stands for its size."""
    block = bytearray(512)
    block[: len(name)] = name
    block[100:108] = b"0000644\0"
    block[124:136] = size.ljust(12, b"\0")
    block[148:156] = b" " * 8
    block[156:157] = kind
    block[257:263] = b"ustar\0"
    block[148:155] = b"%06o\0" % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    "data",
    [
        header(b"\xff" * 10 + b"\xfe\x00", b"Z") * 4,  # minus 512 in base 256: its own successor (CVE-2025-8194)
        header(b"\xff" * 10 + b"\xfe\x00") * 4,
        header(b"-0000000512") * 4,
        header(b"\x80" + b"\xff" * 11),
        header(b"77777777777") + b"x" * 512,
        header(b"20", b"x") + b"20 size=-1024\n".ljust(512, b"\0") + header(b"0"),
        header(b"20", b"x") + b"9999999 path=a\n".ljust(512, b"\0") + header(b"0"),
        header(b"20", b"x") + b"0 path=a\n".ljust(512, b"\0") + header(b"0"),
        header(b"7777777", b"x") + b"0" * 2**21,
        header(b"0")[:100],
        b"",
        b"nonsense" * 1000,
        b"\x1f\x8b\x08" + b"\0" * 600,
    ],
)
def test_an_archive_that_is_none_ends_at_once(target: Path, data: bytes) -> None:
    with pytest.raises(DamagedArchive):
        unpack(data, target)


def test_every_cut_and_every_changed_byte_is_an_error_or_a_folder(target: Path) -> None:
    whole = archive(file("a" * 150, b"x" * 700), link("l", "a"), file("b"))
    for at in range(0, len(whole), 37):
        for data in (whole[:at], whole[:at] + bytes([whole[at] ^ 0x5A]) + whole[at + 1 :]):
            shutil.rmtree(target)
            target.mkdir()
            with contextlib.suppress(DamagedArchive, UnsafeArchive, TooMuch, OSError):
                unpack(data, target)
            assert sorted(target.parent.iterdir()) == [target]


def test_special_bits_are_not_taken_over(target: Path) -> None:
    unpack(archive(file("a")), target)
    assert (target / "a").stat().st_mode & 0o7000 == 0
    assert (target / "a").stat().st_mode & 0o100


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

    long = "very long " * 20
    (source / long).write_text("long")

    unpack(pack(source), target)
    links.settle(target)

    assert (target / long).read_text() == "long"
    assert (target / "sub" / "empty").is_dir()
    assert (target / "run.sh").stat().st_mode & 0o100
    assert (target / "link").readlink() == Path("sub/same")
    assert (target / "sub" / "same").read_text() == "same"
    assert (target / os.fsdecode(b"caf\xe9\n'\"$(x)")).read_bytes() == b"odd"
