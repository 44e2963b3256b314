"""Nodes of both kinds, and projects for them."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from racksack_agent import private_tmp
from racksack_agent.home import Home
from racksack_agent.sessions import home_key
from racksack_controller.nodes import make_node
from racksack_controller.nodes.errors import NodeError, NodeUnreachable
from racksack_controller.nodes.node import AttemptReport, LaunchOrder, Node
from racksack_controller.nodes.settings import LocalSettings, NodeSettings
from racksack_jobspecs.environments.plan import Plan
from racksack_jobspecs.snapshot import digest_of, manifest_of
from tests.nodes.sshd import Sshd, why_not

WAIT_S = 60.0


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path: sockets below it have at most 107 letters."""
    path = Path(tempfile.mkdtemp(prefix="rs-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def make_sshd(folder: Path) -> Iterator[Callable[..., Sshd]]:
    """Start servers for one test."""
    servers: list[Sshd] = []

    def make(**options: str) -> Sshd:
        if reason := why_not():
            pytest.skip(reason)
        server = Sshd(folder / f"sshd{len(servers)}", **options)
        server.start()
        servers.append(server)
        return server

    yield make
    for server in servers:
        server.stop()


@pytest.fixture
def sshd(make_sshd: Callable[..., Sshd]) -> Sshd:
    return make_sshd()


class Watched:
    """A node, with all that it told by itself."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.told: list[AttemptReport] = []
        self.breaks: list[str] = []
        self._news = asyncio.Event()
        node.on_report = self._report
        node.on_disconnect = self._disconnect

    def _report(self, report: AttemptReport) -> None:
        self.told.append(report)
        self._news.set()

    def _disconnect(self, sentence: str) -> None:
        self.breaks.append(sentence)
        self._news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds after some news."""
        async with asyncio.timeout(WAIT_S):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def ended(self, *attempts: str) -> list[AttemptReport]:
        """The final reports of these attempts, once the node told all of them."""

        def final() -> dict[str, AttemptReport]:
            return {report.attempt: report for report in self.told if report.state == "ended"}

        await self.until(lambda: set(attempts) <= set(final()))
        return [final()[attempt] for attempt in attempts]

    async def broken(self) -> str:
        await self.until(lambda: bool(self.breaks))
        return self.breaks[0]


async def connected_reports(node: Node) -> list[AttemptReport]:
    """What a node has, whether or not there is a connection."""
    try:
        return await node.reports()
    except NodeUnreachable:
        return list((await node.connect()).reports)


async def tidy(node: Node) -> None:
    """End and remove all that a test left on a node."""
    with contextlib.suppress(NodeError, TimeoutError):
        async with asyncio.timeout(WAIT_S):
            for report in await connected_reports(node):
                if report.state != "ended":
                    await node.stop(report.attempt, "fenced", 0.0, "KILL")
            while any(report.state != "ended" for report in await node.reports()):
                await asyncio.sleep(0.02)
            await node.remove([report.attempt for report in await node.reports()])
    await node.close()


@pytest.fixture
async def make(folder: Path) -> AsyncIterator[Callable[[NodeSettings], Watched]]:
    """Nodes that are tidied up after the test."""
    nodes: list[Node] = []

    def make_watched(settings: NodeSettings, name: str = "r1") -> Watched:
        nodes.append(make_node(name, settings))
        return Watched(nodes[-1])

    yield make_watched
    for node in nodes:
        await tidy(node)
    end_sessions(folder / "home")


def end_sessions(home: Path) -> None:
    """End the tmux server of a home; it outlives its sessions so that the next one starts sooner."""
    socket = f"{private_tmp.folder()}/{home_key(Home(str(home)))}.tmux"
    subprocess.run(["tmux", "-S", socket, "kill-server"], capture_output=True, check=False, timeout=WAIT_S)


every_way = pytest.mark.parametrize("settings", ["local", "ssh", "jump"], indirect=True)


@pytest.fixture(params=["local", "ssh"])
def settings(request: pytest.FixtureRequest, folder: Path) -> NodeSettings:
    """Each way to reach a node; tests marked `every_way` go through a jump host too."""
    home = folder / "home"
    if request.param == "local":
        return LocalSettings(home)
    make_sshd = request.getfixturevalue("make_sshd")
    target = make_sshd()
    jump = make_sshd().settings(home) if request.param == "jump" else None
    settings: NodeSettings = target.settings(home, jump)
    return settings


@pytest.fixture
async def watched(settings: NodeSettings, make: Callable[[NodeSettings], Watched]) -> Watched:
    """A connected node of each kind."""
    watched = make(settings)
    await watched.node.connect()
    return watched


def project(root: Path, script: str = "print('first line')\n", **files: bytes) -> str:
    """Write a project with the entrypoint main.py; its digest."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "main.py").write_text(script)
    for name, content in files.items():
        (root / name).write_bytes(content)
    return digest_of(manifest_of(root))


def order(attempt: str, digest: str, *args: str, **changes: object) -> LaunchOrder:
    """An order for `main.py` without a venv."""
    values: dict[str, object] = {
        "attempt": attempt,
        "job_id": int(attempt.split(".")[0]),
        "name": "test",
        "node": "r1",
        "digest": digest,
        "entrypoint": "main.py",
        "args": args,
        "environment": Plan(kind="none"),
        "ram_bytes": 256 * 1024**2,
        "grace_s": 1.0,
    }
    return LaunchOrder(**(values | changes))  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def bounded(seconds: float = WAIT_S) -> AsyncIterator[None]:
    """A bound for what must not hang."""
    async with asyncio.timeout(seconds):
        yield
