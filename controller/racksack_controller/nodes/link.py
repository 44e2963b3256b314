"""A conversation with an agent: JSON lines, requests with ids, notices without.

Rules: a request ends in its reply or in NodeUnreachable, never in silence; the end of the conversation is told exactly
once, with a sentence; whatever the agent sends, it cannot crash the controller or fill its memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from racksack_controller.core.report import AttemptKey, unreadable
from racksack_controller.nodes.errors import AgentError, NodeUnreachable
from racksack_controller.nodes.lines import ANSWER_BYTES_MAX, NOTICE_BYTES_MAX, Lines, LineTooLong, decode, repaired
from racksack_controller.nodes.node import AttemptReport
from racksack_controller.nodes.transport import Pipes
from racksack_jobspecs.bounds import BYTES_MAX, cut

DRAIN_ABOVE_BYTES = 64 * 1024
UNASKED_AT_ONCE = (
    200  # lines; then the node is left waiting for a moment, so that one that talks without end slows nobody
)
UNASKED_PAUSE_S = 0.01
ENVELOPE_BYTES = 1024  # of an answer, around its result


class _Grown(msgspec.Struct, frozen=True):
    """The results of a sweep's runner have grown to `size` bytes."""

    attempt: AttemptKey
    size: Annotated[int, Meta(ge=0, le=BYTES_MAX)]


class _Message(msgspec.Struct, frozen=True):
    """Any line of an agent: an answer (with `id`) or a notice."""

    id: int | msgspec.UnsetType | None = msgspec.UNSET
    ok: bool | None = None
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: str | None = None
    kind: str | None = None
    report: msgspec.Raw = msgspec.Raw()
    results: _Grown | None = None


class _Waiting(NamedTuple):
    """A request without an answer yet, and how long that answer may be."""

    future: asyncio.Future[msgspec.Raw]
    bytes_max: int


class Link:
    """The controller's end. `start` it once; after `close` or a break it stays closed."""

    def __init__(
        self,
        name: str,
        pipes: Pipes,
        lines: Lines,
        on_report: Callable[[AttemptReport], None],
        on_disconnect: Callable[[str], None],
        on_results: Callable[[str, int], None] = lambda attempt, size_bytes: None,
    ) -> None:
        self.name = name
        self._pipes = pipes
        self._lines = lines
        self._on_report = on_report
        self._on_disconnect = on_disconnect
        self._on_results = on_results
        self._pending: dict[int, _Waiting] = {}
        self._unasked = 0  # lines that answered no request, since the last pause
        self._last_id = 0
        self._ended: str | None = None
        self._reader: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to listen."""
        self._reader = asyncio.create_task(self._listen(), name=f"link to {self.name}")

    @property
    def is_open(self) -> bool:
        """Whether requests can be made."""
        return self._ended is None

    async def call(
        self, op: str, arguments: Mapping[str, object], timeout_s: float, bytes_max: int = ANSWER_BYTES_MAX
    ) -> msgspec.Raw:
        """Make a request and wait for its result, still JSON. Raises AgentError when refused, NodeUnreachable.

        An agent that does not answer in time is given up altogether: what it says later could not be trusted.
        """
        if self._ended is not None:
            raise NodeUnreachable(self._ended)
        self._last_id += 1
        request_id = self._last_id
        future: asyncio.Future[msgspec.Raw] = asyncio.get_running_loop().create_future()
        self._pending[request_id] = _Waiting(future, bytes_max)
        try:
            async with asyncio.timeout(timeout_s):
                await self._send(msgspec.json.encode({"id": request_id, "op": op, **arguments}) + b"\n")
                return await future
        except TimeoutError:
            self._end(f"The agent on {self.name} did not answer {op!r} within {timeout_s:g} s; connecting again.")
            raise NodeUnreachable(self._ended) from None
        finally:
            # One that is given up is still waited for by the reader: its answer may be long.
            if future.done() and not future.cancelled():
                future.exception()  # seen, also when the request was given up before

    async def _send(self, line: bytes) -> None:
        try:
            self._pipes.write(line)
            if len(line) > DRAIN_ABOVE_BYTES:
                await self._pipes.drain()
        except OSError as error:
            self._end(f"The connection to {self.name} broke while a request was sent ({error}).")
            raise NodeUnreachable(self._ended) from error

    async def _listen(self) -> None:
        try:
            while line := await self._lines.next(self._limit):
                await self._receive(line)
        except OSError as error:
            self._end(f"The connection to {self.name} broke ({error}).")
        except LineTooLong as error:
            self._end(
                f"The agent on {self.name} sent a line of over {error.limit >> 20} MiB where less was asked for; "
                "connecting again."
            )
        except ValueError as error:
            self._end(f"The agent on {self.name} sent an invalid message ({error}); reconnecting.")
        else:
            self._end(await self._epitaph())

    def _limit(self) -> int:
        """How long the next line may be: as the longest answer that is waited for."""
        return max((one.bytes_max for one in self._pending.values()), default=NOTICE_BYTES_MAX)

    async def _epitaph(self) -> str:
        exit_code, words = await self._pipes.last_words()
        if exit_code is None and not words:
            return f"The connection to {self.name} ended."
        how = "ended" if exit_code is None else f"ended with exit code {exit_code}"
        return f"The agent on {self.name} {how}" + (f": {words}" if words else ".")

    async def _receive(self, line: bytes) -> None:
        """Take one line. Raises ValueError."""
        message: _Message | None = decode(await repaired(line), _Message) if line != b" " else None
        if message is not None and self._answer(message, len(line)):
            return
        if message is not None and message.id is msgspec.UNSET:
            self._notice(message)
        self._unasked += 1
        if self._unasked >= UNASKED_AT_ONCE:
            self._unasked = 0
            await asyncio.sleep(UNASKED_PAUSE_S)

    def _answer(self, message: _Message, size_bytes: int) -> bool:
        """Give an answer to whoever waits for it; whether it was asked for. Raises ValueError."""
        if not isinstance(message.id, int) or message.id not in self._pending:
            return False
        waiting = self._pending[message.id]
        if size_bytes > waiting.bytes_max + ENVELOPE_BYTES:
            raise ValueError(f"an answer of {size_bytes} bytes, where {waiting.bytes_max} at most were asked for")
        if message.ok is None:
            raise ValueError("an answer that is neither a success nor an error")
        del self._pending[message.id]
        if waiting.future.done():
            return True  # the request was given up
        if message.ok:
            waiting.future.set_result(message.result)
        else:
            waiting.future.set_exception(_refusal(self.name, message))
        return True

    def _notice(self, message: _Message) -> None:
        running = asyncio.get_running_loop()
        if message.results is not None:
            running.call_soon(self._on_results, message.results.attempt, message.results.size)
        else:
            running.call_soon(self._on_report, report_of(self.name, message.report))

    def _end(self, sentence: str) -> None:
        if self._ended is not None:
            return
        self._finish(sentence)
        self._on_disconnect(sentence)

    def _finish(self, sentence: str) -> None:
        self._ended = sentence
        self._pipes.close()
        for pending in self._pending.values():
            if not pending.future.done():
                pending.future.set_exception(NodeUnreachable(sentence))

    async def close(self) -> None:
        """End the conversation without a word to `on_disconnect`."""
        if self._ended is None:
            self._finish(f"The connection to {self.name} was closed.")
        if self._reader is not None and self._reader is not asyncio.current_task():
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)


def _refusal(name: str, message: _Message) -> AgentError:
    return AgentError(f"{name}: {cut(message.error or 'it gave no reason')}", cut(message.kind or "", 40))


class _Named(msgspec.Struct, frozen=True):
    """What every report must have, to be set aside as that of one attempt."""

    attempt: AttemptKey


def report_of(name: str, text: msgspec.Raw) -> AttemptReport:
    """A node's report; one that makes no sense is `unreadable`. Raises ValueError when it names no attempt."""
    try:
        report: AttemptReport = decode(text, AttemptReport)
    except ValueError as error:
        named: _Named = decode(text, _Named)
        return unreadable(named.attempt, f"{name} sent an invalid report of attempt {named.attempt}: {error}")
    return report
