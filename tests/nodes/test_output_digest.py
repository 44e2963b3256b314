"""Results are the bytes that were written: both sides compute one digest, and what differs is noticed."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from racksack_agent.supervisor import output_digest as agents
from racksack_controller.nodes import output_digest
from racksack_controller.nodes.settings import NodeSettings
from tests.nodes.conftest import Watched, every_way, order, project


def filled(folder: Path) -> Path:
    (folder / "empty").mkdir(parents=True)
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "file").write_bytes(b"x")
    (folder / "deep.txt").write_bytes(b"")
    (folder / "large").write_bytes(os.urandom(3_000_000))
    (folder / "link").symlink_to("large")
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9 \n'\"")).write_bytes(b"odd")
    return folder


def test_both_sides_compute_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = filled(tmp_path / "out")
    whole = agents.digest_of(str(folder))
    assert whole == output_digest.digest_of(folder)
    monkeypatch.setattr(agents, "BLOCK_BYTES", 1 << 20)
    monkeypatch.setattr(output_digest, "BLOCK_BYTES", 1 << 20)
    in_blocks = agents.digest_of(str(folder))
    assert in_blocks == output_digest.digest_of(folder) != whole
    (tmp_path / "nothing").mkdir()
    assert agents.digest_of(str(tmp_path / "nothing")) == hashlib.sha256().hexdigest()


def test_every_change_of_a_file_changes_it(tmp_path: Path) -> None:
    folder = filled(tmp_path / "out")
    seen = {agents.digest_of(str(folder))}
    large = folder / "large"

    def flip() -> None:
        with large.open("r+b") as file:
            file.seek(2_999_999)
            byte = file.read(1)[0]
            file.seek(2_999_999)
            file.write(bytes([byte ^ 1]))

    changes: list[Callable[[], object]] = [
        flip,
        lambda: os.truncate(large, 2_999_999),
        lambda: large.write_bytes(bytes(2_999_999)),
        lambda: (folder / "deep.txt").rename(folder / "deeper.txt"),
        lambda: (folder / "deeper.txt").unlink(),
        lambda: (folder / "empty" / "new").write_bytes(b""),
    ]
    for change in changes:
        change()
        found = agents.digest_of(str(folder))
        assert found not in seen
        seen.add(found)


OUTPUTS = """
import os, pathlib, sys
out = pathlib.Path(os.environ["RACKSACK_RETURN_DIR"])
(out / "payload").write_bytes(os.urandom(int(sys.argv[1])))
(out / "payload").chmod(0o400)
(out / "sub").mkdir()
(out / "sub" / "link").symlink_to("../payload")
(out / "outside").symlink_to("/etc/hostname")
"""


def flipped(payload: Path) -> None:
    with payload.open("r+b") as file:
        byte = file.read(1)[0]
        file.seek(0)
        file.write(bytes([byte ^ 0x10]))


def zeroed(payload: Path) -> None:
    payload.write_bytes(bytes(payload.stat().st_size))


def cut(payload: Path) -> None:
    os.truncate(payload, payload.stat().st_size // 2)


def grown(payload: Path) -> None:
    with payload.open("ab") as file:
        file.write(b"more")


def gone(payload: Path) -> None:
    payload.unlink()


@every_way
@pytest.mark.parametrize("size", [1000, 2_000_000], ids=["inline", "bulk"])
async def test_what_was_written_comes_back(watched: Watched, tmp_path: Path, size: int) -> None:
    digest = project(tmp_path / "project", OUTPUTS)
    await watched.node.stage(digest, tmp_path / "project")
    await watched.node.launch([order("1.1", digest, str(size))])
    [report] = await watched.ended("1.1")
    assert report.outcome == "done"
    assert len(report.output_digest) == 64
    reply = (await watched.node.collect({"1.1": tmp_path / "back"}))["1.1"]
    assert reply.ok, reply
    assert output_digest.digest_of(tmp_path / "back") == report.output_digest


async def test_results_damaged_on_the_node_are_refused(
    watched: Watched, settings: NodeSettings, tmp_path: Path
) -> None:
    digest = project(tmp_path / "project", OUTPUTS)
    await watched.node.stage(digest, tmp_path / "project")
    cases = [(size, damage) for size in (1000, 2_000_000) for damage in (flipped, zeroed, cut, grown, gone)]
    names = [f"{number}.1" for number in range(1, len(cases) + 1)]
    await watched.node.launch([order(name, digest, str(size)) for name, (size, _) in zip(names, cases, strict=True)])
    await watched.ended(*names)
    for name, (_, damage) in zip(names, cases, strict=True):
        payload = Path(str(settings.home)) / "attempts" / name / "out" / "payload"
        payload.chmod(stat.S_IRUSR | stat.S_IWUSR)
        damage(payload)
    replies = await watched.node.collect({name: tmp_path / "back" / name for name in names})
    for name in names:
        assert (replies[name].ok, replies[name].kind) == (False, "damaged"), name
        assert name in (replies[name].error or "")


@every_way
async def test_what_an_earlier_try_left_damaged_here_is_fetched_again(
    watched: Watched, settings: NodeSettings, tmp_path: Path
) -> None:
    """As a crash of the controller leaves it: the right size and time, and other bytes."""
    digest = project(tmp_path / "project", OUTPUTS)
    await watched.node.stage(digest, tmp_path / "project")
    await watched.node.launch([order("1.1", digest, "2000000")])
    await watched.ended("1.1")
    payload = Path(str(settings.home)) / "attempts" / "1.1" / "out" / "payload"
    times = payload.stat()
    back = tmp_path / "back"
    back.mkdir()
    (back / "payload").write_bytes(bytes(2_000_000))
    os.utime(back / "payload", ns=(times.st_atime_ns, times.st_mtime_ns))
    reply = (await watched.node.collect({"1.1": back}))["1.1"]
    assert reply.ok, reply
    assert (back / "payload").read_bytes() == payload.read_bytes()
