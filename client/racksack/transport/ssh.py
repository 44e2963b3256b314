"""The system's ssh, so that the user's keys, aliases, jump hosts and agents work as they do everywhere else.

One connection is shared by all calls of a command and kept for a minute after it (ControlMaster), unless the user's own
configuration already shares connections for this host. Questions (passphrase, unknown host key) reach the terminal.
"""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import IO

from racksack.errors import RacksackError, UnreachableError
from racksack.transport.target import cache_folder

CONNECT_TIMEOUT_S = 20
KEEP_S = 60
SOCKET_PATH_BYTES_MAX = 107
_HASH_LENGTH = 40  # of ssh's %C
_BIND_SUFFIX_LENGTH = 18  # ssh binds beside and renames
_CONNECTION_FAILED = 255


@cache
def argv(host: str) -> tuple[str, ...]:
    """`ssh` and its options, without the host."""
    if shutil.which("ssh") is None:
        raise RacksackError("there is no `ssh` on this machine; install the openssh-client package")
    settings = _effective_settings(host)
    options = ["-o", "ServerAliveInterval=15"] if settings.get("serveraliveinterval", "0") == "0" else []
    if settings.get("connecttimeout", "none") in ("none", "0"):
        options += ["-o", f"ConnectTimeout={CONNECT_TIMEOUT_S}"]
    if settings.get("controlpath", "none") == "none":
        options += _sharing_options()
    return ("ssh", *options)


def command(host: str, remote: Sequence[str]) -> list[str]:
    """The argv that runs `remote` on `host`, each word quoted for the shell over there."""
    return [*argv(host), "-T", "--", host, shlex.join(remote)]


def terminal_command(host: str, remote: Sequence[str]) -> list[str]:
    """Like `command`, with a terminal on the other side."""
    return [*argv(host), "-t", "--", host, shlex.join(remote)]


def rsync_shell(host: str) -> str:
    """What rsync is given as `-e`."""
    return shlex.join(argv(host))


def run(host: str, remote: Sequence[str], *, text: bytes = b"", timeout_s: float | None = None) -> bytes:
    """Run a command on `host` with `text` as its stdin and return its stdout.

    Raises UnreachableError when there is no connection, or no end of the command within `timeout_s`, and RacksackError
    when the command fails.
    """
    with tempfile.TemporaryFile() as stderr:  # a pipe would stay open as long as the shared connection lives
        try:
            done = subprocess.run(
                command(host, remote),
                input=text,
                stdout=subprocess.PIPE,
                stderr=stderr,
                check=False,
                timeout=timeout_s,
            )
        except subprocess.TimeoutExpired:
            said = what_it_said(stderr)
            raise UnreachableError(
                f"cannot reach {host}: ssh did not end within {timeout_s:g} s{f' ({said})' if said else ''}; "
                f"see what `ssh {host} true` waits for"
            ) from None
        said = what_it_said(stderr)
    if done.returncode == _CONNECTION_FAILED:
        raise UnreachableError(f"cannot reach {host}: {said or 'ssh gave no reason'}")
    if done.returncode != 0:
        raise RacksackError(f"on {host}: {said or f'the command ended with code {done.returncode}'}")
    return done.stdout


def what_it_said(stderr: IO[bytes]) -> str:
    """The last words of a program, on one line: usually the reason."""
    stderr.seek(0)
    lines = [line.strip() for line in stderr.read().decode(errors="replace").splitlines()]
    return "; ".join([line for line in lines if line][-3:])


def _effective_settings(host: str) -> dict[str, str]:
    """What the user's configuration says about this host."""
    try:
        asked = subprocess.run(
            ["ssh", "-G", "--", host], capture_output=True, text=True, check=False, timeout=CONNECT_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        raise UnreachableError(
            f"ssh did not tell its settings for {host!r} within {CONNECT_TIMEOUT_S} s; does a `Match exec` in your "
            "~/.ssh/config hang?"
        ) from None
    if asked.returncode != 0:
        said = "; ".join(asked.stderr.split("\n")).strip("; ")
        raise UnreachableError(f"ssh does not accept {host!r} as a host: {said}")
    pairs = (line.partition(" ") for line in asked.stdout.splitlines())
    return {key: value for key, _, value in pairs}


def _sharing_options() -> list[str]:
    folder = _socket_folder()
    if folder is None:
        return []
    return ["-o", "ControlMaster=auto", "-o", f"ControlPath={folder}/%C", "-o", f"ControlPersist={KEEP_S}"]


def _socket_folder() -> Path | None:
    """A folder that only this user can enter and whose path is short enough for a socket; None where there is none."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    candidates = [Path(runtime) / "racksack"] if runtime.startswith("/") else []
    for folder in [*candidates, cache_folder() / "ssh", Path(tempfile.gettempdir()) / f"racksack-{os.getuid()}"]:
        fits = len(os.fsencode(folder)) + 1 + _HASH_LENGTH + _BIND_SUFFIX_LENGTH <= SOCKET_PATH_BYTES_MAX
        if fits and not set("%\"' ") & set(str(folder)) and _is_private(folder):
            return folder
    return None


def _is_private(folder: Path) -> bool:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        info = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(info.st_mode) and info.st_uid == os.getuid() and not info.st_mode & 0o077
