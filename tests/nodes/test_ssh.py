"""What can go wrong on the way to a host, with a real sshd: each is one sentence, and none hangs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from racksack_controller.nodes import bootstrap, host_keys, rsync
from racksack_controller.nodes.errors import HostKeyChanged, NodeUnreachable, NodeUnusable, TransferFailed
from racksack_controller.nodes.settings import NodeSettings, SshSettings
from racksack_controller.nodes.ssh import SshTransport
from racksack_controller.nodes.transport import Announced
from tests.nodes.conftest import Watched, bounded
from tests.nodes.sshd import Sshd, free_port, name_of

MakeSshd = Callable[..., Sshd]
Make = Callable[[NodeSettings], Watched]
OpenTransport = Callable[[SshSettings], SshTransport]


@pytest.fixture
async def transport() -> AsyncIterator[OpenTransport]:
    """Transports that are closed after the test."""
    made: list[SshTransport] = []

    def make(settings: SshSettings) -> SshTransport:
        made.append(SshTransport("r1", settings))
        return made[-1]

    yield make
    for one in made:
        await one.close()


# Host keys


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
async def test_a_changed_host_key_is_refused_on_both_ways(
    sshd: Sshd, transport: OpenTransport, folder: Path, kind: str
) -> None:
    settings = sshd.settings(folder)
    agent_way, bulk_way = transport(settings), transport(settings)
    await bulk_way.connect()
    sshd.stop()
    sshd.new_host_key(kind)
    sshd.start()
    with pytest.raises(HostKeyChanged, match=r"r1 \(.*nothing was sent.*racksack node trust r1") as caught:
        await agent_way.connect()
    if kind == "ed25519":
        shown = subprocess.run(
            ["ssh-keygen", "-lf", str(sshd.folder / "host_key.pub")], capture_output=True, text=True, check=True
        )
        assert shown.stdout.split()[1] in str(caught.value)
    (folder / "source").mkdir()
    with pytest.raises(HostKeyChanged, match="racksack node trust r1"):
        await bulk_way.push(folder / "source", str(folder / "there"))
    assert not (folder / "there").exists()


async def test_a_changed_key_of_the_jump_host_is_refused_too(
    make_sshd: MakeSshd, transport: OpenTransport, folder: Path
) -> None:
    jump, target = make_sshd(), make_sshd()
    settings = target.settings(folder, jump.settings(folder, host_key=target.host_key))
    with pytest.raises(HostKeyChanged, match="jump1 of r1"):
        await transport(settings).connect()


async def test_without_a_stored_key_nothing_is_accepted(sshd: Sshd, transport: OpenTransport, folder: Path) -> None:
    with pytest.raises(NodeUnusable, match="racksack node trust"):
        await transport(sshd.settings(folder, host_key=None)).connect()
    with pytest.raises(NodeUnusable, match="cannot be read"):
        await transport(sshd.settings(folder, host_key="ssh-ed25519 nonsense")).connect()


@pytest.mark.parametrize("jumps", [0, 1, 2])
async def test_the_key_for_pinning_is_the_one_that_ssh_shows(make_sshd: MakeSshd, folder: Path, jumps: int) -> None:
    target = make_sshd()
    way = None
    for _ in range(jumps):
        way = make_sshd().settings(folder, way)
    key = await host_keys.fetch(target.settings(folder, way, host_key=None))
    assert key.line == target.host_key
    listed = subprocess.run(
        ["ssh-keygen", "-lf", str(target.folder / "host_key.pub")], capture_output=True, text=True, check=True
    )
    assert key.fingerprint == listed.stdout.split()[1]


# Reaching


async def test_a_host_that_refuses_connections(transport: OpenTransport, sshd: Sshd, folder: Path) -> None:
    settings = sshd.settings(folder, port=free_port())
    with pytest.raises(NodeUnreachable, match="cannot be reached"):
        await transport(settings).connect()
    with pytest.raises(NodeUnreachable, match="cannot be reached"):
        await host_keys.fetch(settings)


async def test_a_host_that_says_nothing(transport: OpenTransport, sshd: Sshd, folder: Path) -> None:
    accepted: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(lambda reader, writer: accepted.append(writer), "127.0.0.1", 0)
    settings = sshd.settings(folder, port=silent.sockets[0].getsockname()[1], connect_timeout_s=0.3)
    async with bounded(20):
        with pytest.raises(NodeUnreachable, match="did not answer within"):
            await transport(settings).connect()
        with pytest.raises(NodeUnreachable, match="did not answer within"):
            await host_keys.fetch(settings)
    silent.close()
    for writer in accepted:
        writer.close()
        await writer.wait_closed()


async def test_a_refused_login(transport: OpenTransport, sshd: Sshd, folder: Path) -> None:
    (sshd.folder / "authorized_keys").write_text("")
    with pytest.raises(NodeUnusable, match="authorized_keys"):
        await transport(sshd.settings(folder)).connect()


async def test_a_key_of_ours_that_cannot_be_used(transport: OpenTransport, sshd: Sshd, folder: Path) -> None:
    with pytest.raises(NodeUnusable, match="cannot be read"):
        await transport(sshd.settings(folder, identity=folder / "nothing")).connect()
    locked = folder / "locked"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(locked)], check=True)
    with pytest.raises(NodeUnusable, match="no passphrase"):
        await transport(sshd.settings(folder, identity=locked)).connect()


async def test_a_host_that_stops_answering_is_noticed(make: Make, sshd: Sshd, folder: Path) -> None:
    """A power cut sends no FIN: only unanswered keepalives tell."""
    watched = make(sshd.settings(folder / "home", keepalive_s=0.2))
    await watched.node.connect()
    sessions = sshd.sessions()
    for session in sessions:
        session.suspend()
    assert "r1" in await watched.broken()
    for session in sessions:
        session.resume()
    await watched.node.connect()
    assert len(watched.breaks) == 1


# Starting the agent


def path_with(folder: Path, **programs: str) -> str:
    """A PATH that holds only these programs."""
    folder.mkdir(parents=True)
    for name, target in programs.items():
        (folder / name).symlink_to(target)
    return str(folder)


async def test_a_node_without_python(make: Make, make_sshd: MakeSshd, folder: Path) -> None:
    sshd = make_sshd(path=path_with(folder / "bin"))
    with pytest.raises(NodeUnusable, match=r"r1 has no python3 .*install Python 3\.9"):
        await make(sshd.settings(folder / "home")).node.connect()


def old_python() -> str | None:
    """A real Python that is too old for the agent, if this machine has one."""
    roots = [Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions", Path("/usr")]
    for version in ("3.8", "3.7", "3.6", "3.5"):
        for root in roots:
            for found in sorted(root.glob(f"{version}*/bin/python3")) + sorted(root.glob(f"bin/python{version}")):
                return str(found)
    return None


async def test_a_node_with_an_old_python(make: Make, make_sshd: MakeSshd, folder: Path) -> None:
    python = old_python()
    if python is None:
        pytest.skip("no Python older than 3.9 is installed here")
    sshd = make_sshd(path=path_with(folder / "bin", python3=python))
    with pytest.raises(NodeUnusable, match=r"r1 has Python 3\.\d+\.\d+, and .* 3\.9 or newer"):
        await make(sshd.settings(folder / "home")).node.connect()


async def test_a_node_without_rsync_or_tmux(make: Make, make_sshd: MakeSshd, folder: Path) -> None:
    sshd = make_sshd(path=path_with(folder / "bin", python3="/usr/bin/python3", tmux="/usr/bin/tmux"))
    with pytest.raises(NodeUnusable, match="no rsync"):
        await make(sshd.settings(folder / "home")).node.connect()
    sshd = make_sshd(path=path_with(folder / "bin2", python3="/usr/bin/python3", rsync="/usr/bin/rsync"))
    with pytest.raises(NodeUnusable, match="neither tmux nor screen"):
        await make(sshd.settings(folder / "home")).node.connect()


async def test_talkative_start_files_do_no_harm(make: Make, make_sshd: MakeSshd, folder: Path) -> None:
    sshd = make_sshd(command="printf 'Welcome!\\n\\nno newline'; eval \"$SSH_ORIGINAL_COMMAND\"")
    watched = make(sshd.settings(folder / "home"))
    await watched.node.connect()
    await watched.node.stats()


async def test_what_talkative_start_files_do_to_rsync_is_named(
    make_sshd: MakeSshd, transport: OpenTransport, folder: Path
) -> None:
    sshd = make_sshd(command='echo Welcome to this machine; eval "$SSH_ORIGINAL_COMMAND"')
    (folder / "source").mkdir()
    with pytest.raises(NodeUnusable, match="start files print"):
        await transport(sshd.settings(folder)).push(folder / "source", str(folder / "there"))


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            "echo This account is currently not available.; exit 1",
            "exit code 1: This account is currently not available",
        ),
        ("yes", "prints endlessly"),
        ("exit 0", "could not be started"),
    ],
)
async def test_a_login_that_runs_something_else(
    make: Make, make_sshd: MakeSshd, folder: Path, command: str, message: str
) -> None:
    sshd = make_sshd(command=command)
    async with bounded(30):
        with pytest.raises(NodeUnusable, match=message):
            await make(sshd.settings(folder / "home")).node.connect()


async def test_a_login_that_hangs(
    make: Make, make_sshd: MakeSshd, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "START_TIMEOUT_S", 0.5)
    sshd = make_sshd(command="sleep 600")
    with pytest.raises(NodeUnreachable, match="said nothing for"):
        await make(sshd.settings(folder / "home")).node.connect()


async def test_a_home_that_cannot_be_made(make: Make, sshd: Sshd, folder: Path) -> None:
    (folder / "home").write_text("a file")
    with pytest.raises(NodeUnusable, match="folder cannot be written"):
        await make(sshd.settings(folder / "home")).node.connect()


# Bulk


def fill(source: Path, size: int) -> None:
    source.mkdir()
    (source / "data").write_bytes(os.urandom(size))


async def test_a_transfer_that_is_cut_resumes(
    sshd: Sshd, transport: OpenTransport, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder / "source", 8_000_000)
    way = transport(sshd.settings(folder))
    await way.connect()
    with monkeypatch.context() as slow:
        slow.setattr(rsync, "_COMMON", (*rsync._COMMON, "--bwlimit=2000"))
        push = asyncio.create_task(way.push(folder / "source", str(folder / "there")))
        async with bounded():
            while not any(path.stat().st_size > 500_000 for path in folder.glob("there/.data*")):
                await asyncio.sleep(0.01)
        sshd.stop()
        async with bounded(), asyncio.TaskGroup():
            with pytest.raises(TransferFailed, match="was interrupted") as caught:
                await push
    assert caught.value.kind == "unreachable"
    sshd.start()
    await way.connect()
    await way.push(folder / "source", str(folder / "there"))
    assert (folder / "there" / "data").read_bytes() == (folder / "source" / "data").read_bytes()


# The far rsync gets the first megabyte of what we send and nothing more, while its session stays open.
STANDS_STILL = """#!/bin/sh
{ head -c 1000000; exec sleep 600; } | /usr/bin/rsync "$@"
"""


async def test_a_transfer_that_stands_still_ends(
    make_sshd: MakeSshd, transport: OpenTransport, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is quicker to give up, rsync or we: the reason is the same, and nobody waits for the other side."""
    monkeypatch.setattr(rsync, "STALL_S", 1)
    script = path_with(folder / "bin", sh="/bin/sh") + "/rsync"
    Path(script).write_text(STANDS_STILL)
    Path(script).chmod(0o755)
    sshd = make_sshd(path=f"{folder / 'bin'}:/usr/bin:/bin")
    fill(folder / "source", 8_000_000)
    way = transport(sshd.settings(folder))
    await way.connect()
    async with bounded():
        with pytest.raises(TransferFailed, match="made no progress") as caught:
            await way.push(folder / "source", str(folder / "there"))
    assert caught.value.kind == "stalled"
    assert rsyncs_of_ours(sshd) == []
    for session in sshd.sessions():
        for process in session.children(recursive=True):
            process.kill()


def rsyncs_of_ours(sshd: Sshd) -> list[psutil.Process]:
    theirs = {child.pid for child in servers_of_rsync(sshd)}
    mine = [child for child in psutil.Process().children(recursive=True) if name_of(child) == "rsync"]
    return [child for child in mine if child.pid not in theirs]


def servers_of_rsync(sshd: Sshd) -> list[psutil.Process]:
    found = []
    for session in sshd.sessions():
        with contextlib.suppress(psutil.NoSuchProcess):
            found += [child for child in session.children(recursive=True) if name_of(child) == "rsync"]
    return found


async def test_a_transfer_that_is_given_up_leaves_no_process(
    sshd: Sshd, transport: OpenTransport, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rsync, "_COMMON", (*rsync._COMMON, "--bwlimit=500"))
    fill(folder / "source", 8_000_000)
    way = transport(sshd.settings(folder))
    await way.connect()
    push = asyncio.create_task(way.push(folder / "source", str(folder / "there")))
    async with bounded():
        while not servers_of_rsync(sshd):
            await asyncio.sleep(0.01)
        push.cancel()
        with pytest.raises(asyncio.CancelledError):
            await push
        while servers_of_rsync(sshd):
            await asyncio.sleep(0.01)
    assert rsyncs_of_ours(sshd) == []


async def test_nothing_of_ours_stays_behind_after_closing(sshd: Sshd, transport: OpenTransport, folder: Path) -> None:
    fill(folder / "source", 1000)
    way = transport(sshd.settings(folder))
    await way.connect()
    await way.push(folder / "source", str(folder / "there"))
    await way.close()
    async with bounded():
        while sshd.sessions():
            await asyncio.sleep(0.01)


@pytest.mark.skipif(os.getuid() != 0, reason="mounting a small file system needs root")
async def test_a_full_disk_there_is_named(sshd: Sshd, transport: OpenTransport, folder: Path) -> None:
    fill(folder / "source", 1_000_000)
    (folder / "small").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(folder / "small")], check=True)
    way = transport(sshd.settings(folder))
    try:
        await way.connect()
        with pytest.raises(TransferFailed, match="the disk of r1 is full") as caught:
            await way.push(folder / "source", str(folder / "small" / "there"))
    finally:
        subprocess.run(["umount", str(folder / "small")], check=True)
    assert caught.value.kind == "disk_full"


async def test_a_node_that_lies_writes_nothing_outside(sshd: Sshd, transport: OpenTransport, folder: Path) -> None:
    """Links that point at the controller's files arrive munged, devices not at all."""
    source, outside = folder / "source", folder / "outside"
    (source / "sub").mkdir(parents=True)
    outside.mkdir()
    (source / "door").symlink_to(outside)
    os.mkfifo(source / "pipe")
    if os.getuid() == 0:
        os.mknod(source / "null", 0o20666, os.makedev(1, 3))
    way = transport(sshd.settings(folder))
    await way.connect()
    await way.pull(str(source), folder / "target", Announced(10, 2**20))
    assert sorted(path.name for path in (folder / "target").iterdir()) == ["door", "sub"]
    assert (folder / "target" / "door").readlink() == Path(f"/rsyncd-munged/{outside}")
    # The node swaps the link for a folder: the second pull must not write through the link of the first.
    (source / "door").unlink()
    (source / "door").mkdir()
    (source / "door" / "evil").write_text("evil")
    await way.pull(str(source), folder / "target", Announced(10, 2**20))
    assert list(outside.iterdir()) == []
    assert (folder / "target" / "door" / "evil").exists()


@pytest.mark.parametrize("host", ["-oProxyCommand=touch x", 'a"b', "a\nb"])
async def test_settings_cannot_smuggle_options_to_ssh(
    transport: OpenTransport, sshd: Sshd, folder: Path, host: str
) -> None:
    way = transport(sshd.settings(folder, host=host))
    (folder / "source").mkdir()
    with pytest.raises(NodeUnusable, match="cannot be used"):
        await way.push(folder / "source", str(folder / "there"))


async def test_run_tells_exit_code_and_output_and_is_bounded(
    sshd: Sshd, transport: OpenTransport, folder: Path
) -> None:
    way = transport(sshd.settings(folder))
    await way.connect()
    done = await way.run(["sh", "-c", "printf '%s' \"$1\"; exit 7", "sh", "a'b $(x)"])
    assert (done.exit_code, done.stdout) == (7, b"a'b $(x)")
    with pytest.raises(NodeUnreachable, match="did not end"):
        await way.run(["sleep", "600"], timeout_s=0.2)
    with pytest.raises(NodeUnreachable, match="prints endlessly"):
        await way.run(["yes"])


async def test_a_pull_ends_when_much_more_comes_than_was_announced(
    sshd: Sshd, transport: OpenTransport, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = folder / "source", folder / "target"
    source.mkdir()
    for number in range(400):
        (source / f"{number:03}").write_bytes(os.urandom(100_000))
    (source / "sparse").touch()
    os.truncate(source / "sparse", 2**40)
    way = transport(sshd.settings(folder))
    await way.connect()
    with monkeypatch.context() as slow:
        slow.setattr(rsync, "_COMMON", (*rsync._COMMON, "--bwlimit=20000"))
        slow.setattr(rsync, "LOOK_EVERY_S", 0.05)
        with pytest.raises(TransferFailed, match="sends much more than it reported"):
            await way.pull(str(source), target, Announced(1, 100_000))
    came = sum(path.stat().st_size for path in target.iterdir())
    assert came < 30_000_000
    assert not (target / "sparse").exists()
