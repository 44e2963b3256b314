"""Starts the agent on a node that may never have seen it, in one round trip when it is there already.

The agent is a folder named by the hash of its own content, so an old agent and a new one can serve side by side while
jobs of both run. The node needs a Python of 3.9 or newer; everything else comes through the pipe.
"""

from __future__ import annotations

import asyncio
import binascii
import hashlib
import io
import tarfile
from collections.abc import Sequence
from importlib import resources
from importlib.resources.abc import Traversable

import msgspec
from msgspec.structs import force_setattr

from racksack_controller.nodes.errors import NodeUnreachable, NodeUnusable
from racksack_controller.nodes.lines import Lines, LineTooLong, decode, without_lone_surrogates
from racksack_controller.nodes.transport import Pipes
from racksack_jobspecs.bounds import Name, PathText, cut

MARKER = b"racksack-agent "
NOISE_LINES_MAX = 1000  # what a login shell's start files may print before us
NOISE_BYTES_MAX = 1024**2  # all of it together
LINE_BYTES_MAX = 64 * 1024
SHOWN_BYTES_MAX = 200
START_TIMEOUT_S = 30.0


class AgentPackage(msgspec.Struct, frozen=True):
    """The agent as it is pushed."""

    digest: str
    archive: bytes


class Ground(msgspec.Struct, frozen=True):
    """What the bootstrap found out about the node."""

    python: str
    machine: str  # "x86_64"
    libc: str  # "glibc 2.36", empty where the C library is another one
    home: str


class _Said(msgspec.Struct, frozen=True):
    python: Name
    machine: Name = ""
    libc: Name = ""
    home: PathText = ""
    have: bool = False
    error: Name | None = None
    sentence: str = ""

    def __post_init__(self) -> None:
        """Cut the sentence. Raises ValueError for a home that is no absolute path."""
        force_setattr(self, "sentence", cut(self.sentence, 300))
        if self.home and (not self.home.startswith("/") or "\0" in self.home):
            raise ValueError("its home is not an absolute path")


def agent_package() -> AgentPackage:
    """The agent that belongs to this controller."""
    files = sorted(_sources(resources.files("racksack_agent"), "racksack_agent"))
    whole = hashlib.sha256()
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=6) as archive:
        for path, data in files:
            whole.update(b"%s\0%d\0%s" % (path.encode(), len(data), data))
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(data), 0o644
            archive.addfile(member, io.BytesIO(data))
    return AgentPackage(whole.hexdigest()[:32], stream.getvalue())


def _sources(folder: Traversable, path: str) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for entry in folder.iterdir():
        below = f"{path}/{entry.name}"
        if entry.is_dir() and entry.name != "__pycache__":
            found += _sources(entry, below)
        elif entry.is_file() and entry.name.endswith(".py"):
            found.append((below, entry.read_bytes()))
    return found


def command(python: str, home: str, digest: str, options: Sequence[str] = ()) -> list[str]:
    """The argument vector that starts the bootstrap. No argument needs more than single quotes in any shell.
    `options`: further arguments of `serve`.
    """
    source = resources.files("racksack_controller.nodes").joinpath("remote_bootstrap.py").read_text("utf-8")
    program = f"HOME = {home!a}\nDIGEST = {digest!a}\nOPTIONS = {list(options)!a}\n{source}"
    text = binascii.b2a_base64(program.encode(), newline=False).decode()
    return [python, "-I", "-S", "-c", f'import binascii;exec(binascii.a2b_base64("{text}"))']


async def handshake(name: str, pipes: Pipes, lines: Lines, package: AgentPackage) -> Ground:
    """Wait for the bootstrap, give it the agent if it asks. Raises NodeUnusable, NodeUnreachable."""
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            said = await _listen(name, pipes, lines)
            if not said.have:
                pipes.write(b"%016d" % len(package.archive) + package.archive)
                await pipes.drain()
                said = await _listen(name, pipes, lines)
    except TimeoutError:
        raise NodeUnreachable(
            f"{name} accepted the login but its Python said nothing for {START_TIMEOUT_S:g} s; look at the node's load "
            "and at what its shell start files do."
        ) from None
    except LineTooLong as error:
        raise NodeUnusable(
            f"{name}: the login shell prints a line of more than {error.limit >> 10} KiB instead of running Python."
        ) from error
    except OSError as error:
        raise NodeUnreachable(f"The connection to {name} broke while its agent was started ({error}).") from error
    return Ground(said.python, said.machine, said.libc, said.home)


async def _listen(name: str, pipes: Pipes, lines: Lines) -> _Said:
    last, noise_bytes, noise_lines = b"", 0, 0
    while line := await lines.next(lambda: LINE_BYTES_MAX):
        if line.startswith(MARKER):
            return _judge(name, _decode(name, line[len(MARKER) :]))
        last = line[:SHOWN_BYTES_MAX] if line.strip() else last
        noise_bytes, noise_lines = noise_bytes + len(line), noise_lines + 1
        if noise_lines > NOISE_LINES_MAX or noise_bytes > NOISE_BYTES_MAX:
            raise NodeUnusable(f"{name}: the login shell prints endlessly instead of running Python: {_text(last)}")
    exit_code, words = await pipes.last_words()
    raise _no_python(name, exit_code, words or _text(last))


def _decode(name: str, text: bytes) -> _Said:
    try:
        said: _Said = decode(without_lone_surrogates(text), _Said)
    except ValueError as error:
        raise NodeUnusable(f"{name}: the agent's start-up message cannot be read ({error}).") from error
    return said


def _judge(name: str, said: _Said) -> _Said:
    if said.error == "python":
        raise NodeUnusable(
            f"{name} has Python {said.python}, and racksack's agent needs 3.9 or newer; install a newer python3 there."
        )
    if said.error is not None:
        raise NodeUnusable(
            f"{name}: the agent's folder cannot be written ({said.sentence}); free space or fix its owner."
        )
    return said


def _no_python(name: str, exit_code: int | None, words: str) -> NodeUnusable | NodeUnreachable:
    if exit_code == 127:
        return NodeUnusable(f"{name} has no python3 on the login's PATH ({words}); install Python 3.9 or newer there.")
    if exit_code is None:
        return NodeUnreachable(f"The connection to {name} ended while its agent was started. {words}".rstrip())
    return NodeUnusable(f"{name}: Python could not be started there, exit code {exit_code}: {words or 'no message'}.")


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace")
