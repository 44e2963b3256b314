"""HTTP/1.1 to the controller: over its unix socket, or over ssh joined to that socket.

One connection serves a whole command. A request whose connection broke is repeated once when it changes nothing (GET);
otherwise UnreachableError says so. The controller's refusals become the matching errors of `racksack.errors`.
"""

from __future__ import annotations

import errno
import http.client
import os
import select
import socket
import stat
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlencode

from racksack import errors
from racksack.text import clean_lines
from racksack.transport.target import Target

ANSWER_TIMEOUT_S = 30.0
SOCKET_PATH_BYTES_MAX = 107
_GREETING = b"racksack-relay "
_GREETING_LINES_MAX = 200  # a shell profile may print a few lines before the relay starts
_API = "/api/v1/"
_SENTENCE_CHARS_MAX = 20_000
_FALLBACK_CODES = {400: 2, 403: 5, 404: 3, 409: 5}


@dataclass(frozen=True)
class Answer:
    """What the controller said."""

    body: bytes
    headers: Mapping[str, str]


class Connection:
    """A way to one controller, opened with the first request."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.open_s_max: float | None = None  # how long the login may take; None: as long as the person wants
        self._ssh: subprocess.Popen[bytes] | None = None
        self._ssh_stderr: IO[bytes] | None = None
        self._http = _SocketHTTP(self._open)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: bytes | None = None,
        timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> Answer:
        """Ask the controller. `path` is below /api/v1/; queries that are None are left out; `timeout_s` is for silence.

        Raises UnreachableError without a whole answer, and the error that the controller's code stands for.
        """
        given = {key: value for key, value in (query or {}).items() if value is not None}
        address = _API + quote(path) + (f"?{urlencode(given)}" if given else "")
        if self._http.sock is not None and _has_ended(self._http.sock):
            self.close()
        tries_left = 2 if method == "GET" and self._http.sock is not None else 1
        while True:
            tries_left -= 1
            try:
                status, answer = self._ask(method, address, body, timeout_s)
            except (OSError, http.client.HTTPException) as error:
                said = self._reason(error)
                self.close()
                if tries_left == 0:
                    raise _no_answer(self.target, method, said) from error
            except BaseException:  # no way to the controller, Ctrl-C: http.client would refuse every later request
                self.close()
                raise
            else:
                if status >= 300:
                    raise _refusal(status, answer.body)
                return answer

    def close(self) -> None:
        """End the connection. The next request opens another."""
        self._http.close()
        if self._ssh is not None:
            try:
                self._ssh.wait(timeout=2)
            except subprocess.TimeoutExpired:
                self._ssh.terminate()
                self._ssh.wait()
            self._ssh = None
        if self._ssh_stderr is not None:
            self._ssh_stderr.close()
            self._ssh_stderr = None

    def _ask(self, method: str, address: str, body: bytes | None, timeout_s: float) -> tuple[int, Answer]:
        """The status and the whole answer. After any exception the connection cannot be used again."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        self._http.silence_s_max = timeout_s
        self._http.request(method, address, body=body, headers=headers)
        response = self._http.getresponse()
        content = response.read()
        return response.status, Answer(content, dict(response.getheaders()))

    def _open(self) -> socket.socket:
        if self.target.host is None:
            return open_local(self.target)
        return self._open_over_ssh(self.target.host)

    def _open_over_ssh(self, host: str) -> socket.socket:
        from racksack.transport import ssh

        relay = Path(__file__).with_name("relay.py").read_text()
        ours, theirs = socket.socketpair()
        self._ssh_stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the connection
        with theirs:
            argv = ssh.command(host, ["python3", "-c", relay, self.target.socket])
            end = theirs.fileno()
            self._ssh = subprocess.Popen(argv, stdin=end, stdout=end, stderr=self._ssh_stderr.fileno())
        try:
            greeting = _read_greeting(ours, self.open_s_max)
        except OSError:
            ours.close()
            raise
        if greeting == b"ok":
            return ours
        ours.close()
        raise self._no_relay(greeting)

    def _no_relay(self, greeting: bytes | None) -> errors.RacksackError:
        """Why there is no way to the socket: the relay said it, or ssh did."""
        from racksack.transport import ssh

        if greeting is not None:
            _, number, sentence = (*greeting.decode(errors="replace").split(" ", 2), "", "")[:3]
            return _no_socket(self.target, int(number) if number.isdigit() else 0, sentence)
        code = self._ssh.wait() if self._ssh is not None else 0
        said = (ssh.what_it_said(self._ssh_stderr) if self._ssh_stderr else "") or f"ssh ended with code {code}"
        if code == 127:
            said += "; the controller's machine must have python3 in its PATH"
        return errors.UnreachableError(f"cannot reach the controller at {self.target}: {said}; nothing was changed")

    def _reason(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return "it was silent for too long"
        if self._ssh is not None and self._ssh_stderr is not None and self._ssh.poll() not in (None, 0):
            from racksack.transport import ssh

            return ssh.what_it_said(self._ssh_stderr) or "the ssh connection ended"
        return str(error) or "the connection ended"


class _SocketHTTP(http.client.HTTPConnection):
    """HTTP over a socket that somebody else opens."""

    def __init__(self, open_socket: Callable[[], socket.socket]) -> None:
        super().__init__("localhost")
        self._open_socket = open_socket
        self.silence_s_max = ANSWER_TIMEOUT_S

    def connect(self) -> None:
        self.sock = self._open_socket()

    def send(self, data: Any) -> None:  # noqa: ANN401 - as in the base class
        if self.sock is None:
            self.connect()
        self.sock.settimeout(self.silence_s_max)
        super().send(data)


def _has_ended(idle: socket.socket) -> bool:
    """Whether the other end has closed a connection on which nothing is under way: then it is readable."""
    poll = select.poll()
    poll.register(idle, select.POLLIN)
    return bool(poll.poll(0))


def open_local(target: Target) -> socket.socket:
    """Connect to the controller's socket on this machine. Raises UnreachableError with the reason."""
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # A controller that no longer accepts connections would let us wait for ever; Python's timeout would not wait.
    link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(ANSWER_TIMEOUT_S), 0))
    try:
        _connect(link, target.socket)
    except OSError as error:
        link.close()
        raise _no_socket(target, error.errno or 0, error.strerror or str(error)) from error
    return link


def _connect(link: socket.socket, path: str) -> None:
    """Connect to `path` however long it is: an address may have 107 bytes at most, so a deep one goes through /proc."""
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX:
        link.connect(path)
        return
    folder = os.open(Path(path).parent, os.O_PATH | os.O_DIRECTORY)
    try:
        link.connect(f"/proc/self/fd/{folder}/{Path(path).name}")
    finally:
        os.close(folder)


def is_listening(target: Target) -> bool:
    """Whether a controller answers on the socket of this machine."""
    try:
        is_socket = stat.S_ISSOCK(Path(target.socket).stat().st_mode)
    except OSError:
        return False
    if not is_socket:
        return False
    try:
        open_local(target).close()
    except errors.UnreachableError:
        return False
    return True


def _no_answer(target: Target, method: str, said: str) -> errors.UnreachableError:
    """The connection ended without an answer. Everything that can be asked for may be asked for twice."""
    unknown = "" if method == "GET" else "; the request may have taken effect; repeating it is safe"
    return errors.UnreachableError(f"the controller at {target} does not answer: {said}{unknown}")


def _no_socket(target: Target, number: int, sentence: str) -> errors.UnreachableError:
    where, kind = str(target), errors.UnreachableError
    if number in (errno.ENOENT, errno.ECONNREFUSED):
        reason = f"no controller is running there (nothing listens on {target.socket})"
    elif number == errno.EAGAIN:
        reason = f"the controller no longer accepts connections at {target.socket}; it hangs, or is stopped"
    elif number in (errno.EACCES, errno.EPERM):
        reason = f"you may not use {target.socket}; ask to be added to the spool's group"
        kind = errors.NotAllowedError
    else:
        reason = f"{target.socket}: {sentence}"
    return kind(f"cannot reach the controller at {where}: {reason}; nothing was changed")


def _read_greeting(link: socket.socket, limit_s: float | None = None) -> bytes | None:
    """What follows `racksack-relay ` on the relay's first line, or None when there is no such line.

    One byte at a time, because what comes after the line belongs to HTTP. Raises TimeoutError after `limit_s`.
    """
    until_s = None if limit_s is None else time.monotonic() + limit_s
    for _ in range(_GREETING_LINES_MAX):
        line = bytearray()
        while not line.endswith(b"\n") and len(line) < 4096:
            if until_s is not None:
                link.settimeout(max(0.001, until_s - time.monotonic()))
            byte = link.recv(1)
            if not byte:
                return None
            line += byte
        if line.startswith(_GREETING):
            return bytes(line[len(_GREETING) :].strip())
    return None


def _refusal(status: int, content: bytes) -> errors.RacksackError:
    """The error that an answer outside 2xx stands for."""
    import json

    try:
        said = json.loads(content)
        sentence, code = str(said["error"]), int(said.get("code", _FALLBACK_CODES.get(status, 1)))
    except (ValueError, KeyError, TypeError, RecursionError):
        return errors.RacksackError(f"the controller answered {status} without a reason")
    return errors.error_for_code(code, clean_lines(sentence)[:_SENTENCE_CHARS_MAX])
