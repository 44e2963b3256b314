"""A conversation with an agent: JSON lines, requests with ids, notices without.

Rules: a request ends in its reply or in NodeUnreachable, never in silence; the end of the conversation is told exactly
once, with a sentence; whatever the agent sends, it cannot crash the controller or fill its memory.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from racksack_controller.nodes.errors import AgentError, NodeUnreachable
from racksack_controller.nodes.node import AttemptReport
from racksack_controller.nodes.transport import Pipes

LINE_BYTES_MAX = 64 * 1024**2
READ_BYTES = 256 * 1024
DRAIN_ABOVE_BYTES = 64 * 1024


class LineTooLong(Exception):  # noqa: N818 - told apart from OSError, never shown
    """The other side sent more than LINE_BYTES_MAX without a newline."""


class Lines:
    """Splits what comes through a pipe into lines."""

    def __init__(self, pipes: Pipes) -> None:
        self._pipes = pipes
        self._buffer = bytearray()

    async def next(self) -> bytes:
        """The next line without its newline; empty at the end. Raises OSError and LineTooLong."""
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > LINE_BYTES_MAX:
                raise LineTooLong
            data = await self._pipes.read(READ_BYTES)
            if not data:
                return b""
            self._buffer += data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line or b" "  # an empty line is not the end


def parse(line: bytes) -> Any:  # noqa: ANN401 - any JSON
    """A JSON value. Raises ValueError. Half a surrogate pair, which UTF-8 cannot carry further, becomes an escape."""
    try:
        return msgspec.json.decode(line)
    except msgspec.DecodeError:
        return _without_surrogates(json.loads(line))


def _without_surrogates(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    return value


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
        self._pending: dict[int, asyncio.Future[Any]] = {}
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

    async def call(self, op: str, arguments: Mapping[str, object], timeout_s: float) -> Any:  # noqa: ANN401
        """Make a request and wait for its result. Raises AgentError when refused, NodeUnreachable.

        An agent that does not answer in time is given up altogether: what it says later could not be trusted.
        """
        if self._ended is not None:
            raise NodeUnreachable(self._ended)
        self._last_id += 1
        request_id = self._last_id
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._pending[request_id] = future
        try:
            async with asyncio.timeout(timeout_s):
                await self._send(msgspec.json.encode({"id": request_id, "op": op, **arguments}) + b"\n")
                return await future
        except TimeoutError:
            self._end(f"The agent on {self.name} did not answer {op!r} within {timeout_s:g} s; connecting again.")
            raise NodeUnreachable(self._ended) from None
        finally:
            self._pending.pop(request_id, None)
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
            while line := await self._lines.next():
                self._receive(line)
        except OSError as error:
            self._end(f"The connection to {self.name} broke ({error}).")
        except LineTooLong:
            self._end(f"The agent on {self.name} sent a line of over {LINE_BYTES_MAX >> 20} MiB; connecting again.")
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            self._end(f"The agent on {self.name} sent what is not its protocol ({error}); connecting again.")
        else:
            self._end(await self._epitaph())

    async def _epitaph(self) -> str:
        exit_code, words = await self._pipes.last_words()
        if exit_code is None and not words:
            return f"The connection to {self.name} ended."
        how = "ended" if exit_code is None else f"ended with exit code {exit_code}"
        return f"The agent on {self.name} {how}" + (f": {words}" if words else ".")

    def _receive(self, line: bytes) -> None:
        if line == b" ":
            return
        message = parse(line)
        if not isinstance(message, dict):
            raise ValueError(f"a line that is not an object: {line[:80]!r}")
        if "id" not in message:
            self._notice(message)
            return
        future = self._pending.get(message["id"])
        if future is None or future.done():
            return  # a request that was given up
        if message["ok"] is True:
            future.set_result(message["result"])
        else:
            future.set_exception(_refusal(self.name, message))

    def _notice(self, message: Mapping[str, Any]) -> None:
        running = asyncio.get_running_loop()
        if "results" in message:
            news = message["results"]
            running.call_soon(self._on_results, str(news["attempt"]), int(news["size"]))
        else:
            running.call_soon(self._on_report, msgspec.convert(message["report"], AttemptReport))

    def _end(self, sentence: str) -> None:
        if self._ended is not None:
            return
        self._finish(sentence)
        self._on_disconnect(sentence)

    def _finish(self, sentence: str) -> None:
        self._ended = sentence
        self._pipes.close()
        for future in self._pending.values():
            if not future.done():
                future.set_exception(NodeUnreachable(sentence))

    async def close(self) -> None:
        """End the conversation without a word to `on_disconnect`."""
        if self._ended is None:
            self._finish(f"The connection to {self.name} was closed.")
        if self._reader is not None and self._reader is not asyncio.current_task():
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)


def _refusal(name: str, message: Mapping[str, object]) -> AgentError:
    sentence = str(message.get("error") or "it gave no reason")
    return AgentError(f"{name}: {sentence}", str(message.get("kind") or ""))
