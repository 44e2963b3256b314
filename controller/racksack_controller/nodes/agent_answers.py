"""What an agent may answer: one type for each request, with bounds, and how the controller asks for it."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Sequence
from typing import Annotated, Literal, Protocol, TypeVar

import msgspec
from msgspec import Meta

from racksack_controller.core.report import AttemptReport
from racksack_controller.nodes.lines import ANSWER_BYTES_MAX
from racksack_controller.nodes.link import report_of
from racksack_controller.nodes.node import Hello, Piece
from racksack_jobspecs.bounds import Bytes, Count, Name, PathText, measured

REPORTS_MAX = 20_000  # attempts on one node
REPORTS_BYTES_MAX = 16 * 1024**2
RESULTS_BYTES_MAX = 8 * 1024**2  # of one answer, unpacked
SMALL_BYTES_MAX = 64 * 1024  # of answers that say little
ARGV_MAX = 100
CONTENTS_MAX = 10_000  # digests that an agent names

T = TypeVar("T")
Argv = Annotated[list[PathText], Meta(max_length=ARGV_MAX)]


class Ask(Protocol):
    """A request to an agent whose result is a `kind`. Raises NodeUnreachable, AgentError, NodeUnusable."""

    async def __call__(  # noqa: D102 - see the class
        self,
        op: str,
        arguments: dict[str, object],
        timeout_s: float,
        kind: type[T],
        bytes_max: int = ANSWER_BYTES_MAX,
    ) -> T: ...


class HelloAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent says first."""

    agent: Name
    boot_id: Name
    hostname: Name
    python: Name
    home: PathText
    session: Literal["tmux", "screen", "slurm"] | None
    uv: PathText | None
    rsync: PathText | None
    clock_s: float
    up_s: float | None = None
    reports: list[msgspec.Raw] = []
    contents: Annotated[list[Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]], Meta(max_length=CONTENTS_MAX)] = []

    def __post_init__(self) -> None:
        """Raises ValueError for a home that is no absolute path."""
        if not self.home.startswith("/") or "\0" in self.home:
            raise ValueError("its home is not an absolute path")

    def hello(self, reports: Sequence[AttemptReport]) -> Hello:
        """The same with the reports read."""
        return Hello(
            agent=self.agent,
            boot_id=self.boot_id,
            hostname=self.hostname,
            python=self.python,
            home=self.home,
            session=self.session,
            uv=self.uv,
            rsync=self.rsync,
            clock_s=measured(self.clock_s, 0, 1e11) or 0.0,
            up_s=measured(self.up_s, 0, 1e10),
            reports=tuple(reports),
            contents=tuple(self.contents),
        )


class BringAnswer(msgspec.Struct, frozen=True):
    """Files that were put together to be pulled."""

    path: PathText
    files: Count
    bytes: Bytes
    missing: tuple[str, ...] = ()


class CheckpointAnswer(msgspec.Struct, frozen=True):
    """The newest checkpoint of an attempt, and where it is on the node."""

    path: PathText
    number: Annotated[int, Meta(ge=1, le=2**40)]
    digest: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    files: Count
    bytes: Bytes
    taken_at_s: float


class PieceAnswer(msgspec.Struct, frozen=True):
    """A piece of a log, or of what a sweep's runner wrote."""

    data_b64: str
    offset: Bytes
    size: Bytes
    zlib: bool = False

    def piece(self, limit: int) -> Piece:
        """At most `limit` bytes of it, unpacked: what a node sends must not fill our memory. Raises ValueError."""
        try:
            data = base64.b64decode(self.data_b64)
            if self.zlib:
                data = zlib.decompressobj().decompress(data, limit)
        except (binascii.Error, zlib.error) as error:
            raise ValueError(str(error)) from error
        return Piece(data[:limit], self.offset, self.size)


def read_reports(node: str, texts: Sequence[msgspec.Raw]) -> tuple[list[AttemptReport], list[str]]:
    """The reports, and a sentence about each that does not even name an attempt. Raises ValueError for too many."""
    if len(texts) > REPORTS_MAX:
        raise ValueError(f"it reports {len(texts)} attempts, more than {REPORTS_MAX}")
    reports, nameless = [], []
    for text in texts:
        try:
            reports.append(report_of(node, text))
        except ValueError as error:
            nameless.append(f"a report of {node} names no attempt and was ignored ({error})")
    return reports, nameless
