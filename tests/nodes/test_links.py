"""What may stay of the links and odd files that a node sends."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from racksack_controller.nodes import links


@pytest.mark.parametrize(
    ("path", "target"),
    [
        (b"latest", b"run/9"),
        (b"a/b/link", b"../../top"),
        (b"a/link", b".././top"),
        (b"a/link", b".."),
        (b"link", b"."),
        (b"\xff/link", b"../\xfe"),
    ],
)
def test_a_link_that_stays_inside_is_kept(path: bytes, target: bytes) -> None:
    assert links.stays_inside(path, target)


@pytest.mark.parametrize(
    ("path", "target"),
    [
        (b"link", b"/etc/passwd"),
        (b"link", b".."),
        (b"link", b"../x"),
        (b"a/b/link", b"../../../x"),
        (b"a/link", b"./.././../x"),
        (b"link", b"folder/../../x"),
        (b"a/x", b"b/c/../../y"),  # stays inside by its letters, but `b/c` may itself be a link to somewhere higher
        (b"link", b""),
    ],
)
def test_a_link_that_could_lead_out_is_not(path: bytes, target: bytes) -> None:
    assert not links.stays_inside(path, target)


def test_settling_keeps_drops_counts_and_says_so(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("secret")
    root = tmp_path / "out"
    (root / "deep").mkdir(parents=True)
    (root / "deep" / "file").write_bytes(b"12345")
    (root / "good").symlink_to("/rsyncd-munged/deep/file")
    (root / "plain").symlink_to("deep")
    (root / "deep" / "bad").symlink_to("/rsyncd-munged/../../outside")
    (root / "absolute").symlink_to(f"/rsyncd-munged/{outside}")
    os.mkfifo(root / "pipe")
    closed = root / "closed"
    closed.write_bytes(b"x")
    closed.chmod(0o6000)

    content = links.settle(root)

    assert (content.files, content.bytes) == (2, 6)
    assert (root / "good").readlink() == Path("deep/file")
    assert (root / "plain").readlink() == Path("deep")
    assert sorted(entry.name for entry in root.iterdir()) == ["closed", "deep", "good", "plain"]
    assert [entry.name for entry in (root / "deep").iterdir()] == ["file"]
    assert closed.stat().st_mode & 0o7777 == 0o600
    assert len(content.notes) == 3
    assert sum("leads out of the folder" in note for note in content.notes) == 2
    assert any("pipe" in note and "device, socket or pipe" in note for note in content.notes)


def test_no_chain_of_kept_links_leads_out(tmp_path: Path) -> None:
    """The classic: a link to a shallow folder, deep in the tree, and a second that goes up through it."""
    root = tmp_path / "inside" / "out"
    (root / "a" / "b").mkdir(parents=True)
    (tmp_path / "inside" / "x").write_text("outside")
    (root / "a" / "b" / "c").symlink_to("../..")  # the folder itself: harmless
    (root / "l").symlink_to("a/b/c/../x")  # by its letters a/b/x, in truth ../x
    assert (root / "l").read_text() == "outside"
    links.settle(root)
    assert not (root / "l").is_symlink()
    assert (root / "a" / "b" / "c").is_symlink()


def test_names_for_people_are_printable() -> None:
    assert links.shown(b"caf\xe9") == "caf\\xe9"
    assert "\n" not in links.shown(b"a\nb")
    assert "\x1b" not in links.shown(b"\x1b[31m")
