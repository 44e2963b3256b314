"""What a controller answers to `attach` is run on this person's account, so it is looked at before.

Known shapes alone are run: tmux or screen on a socket, the agent's shell, ssh with the controller's own configuration.
The latter two run what their files say. On the controller's machine root runs all of it as the controller's user, and
anybody else only what they own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from racksack.errors import RefusedError
from racksack.text import clean

_PLAIN = re.compile(r"[A-Za-z0-9_./=@:,+%~-]+")
_TMUX = (("-S", None), ("-L", None), ("-f", "/dev/null"), ("-u", ""))


def check(argv: Sequence[str]) -> None:
    """Raise RefusedError unless this is a known way into a terminal."""
    if not argv or not (_is_tmux(argv) or _is_screen(argv) or _is_shell(argv) or _is_ssh(argv)):
        raise RefusedError(f"the controller sent an attach command of an unknown form, which is not run: {clean(argv)}")


def user_to_run_as(socket: Path) -> tuple[int, int] | None:
    """Uid and gid of the controller when we are root and it is not; None to run as ourselves.

    Raises RefusedError for another user of this machine, whom the controller's files are closed to anyway.
    """
    try:
        info = socket.stat()
    except OSError as error:
        raise RefusedError(f"{socket} cannot be looked at: {error.strerror}") from error
    if info.st_uid == os.geteuid():
        return None
    if os.geteuid() != 0:
        raise RefusedError("to attach, be the controller's user or root, or connect over ssh as that user")
    return info.st_uid, info.st_gid


def _is_tmux(argv: Sequence[str]) -> bool:
    """`tmux [-S SOCKET] [-f /dev/null] attach-session [-r] -t =NAME`."""
    words = list(argv)
    if Path(words.pop(0)).name != "tmux":
        return False
    while words and words[0] != "attach-session":
        option, values = words.pop(0), dict(_TMUX)
        if option not in values:
            return False
        if values[option] != "":
            value = words.pop(0) if words else ""
            if not value or values[option] not in (None, value):
                return False
    rest = [word for word in words[1:] if word != "-r"]
    return len(rest) == 2 and rest[0] == "-t" and _PLAIN.fullmatch(rest[1]) is not None


def _is_screen(argv: Sequence[str]) -> bool:
    """`env SCREENDIR=FOLDER screen -x NAME`."""
    if len(argv) != 5 or argv[0] != "env" or not argv[1].startswith("SCREENDIR=/"):
        return False
    return Path(argv[2]).name == "screen" and argv[3] == "-x" and _PLAIN.fullmatch(argv[4]) is not None


def _is_shell(argv: Sequence[str]) -> bool:
    """`python -I -S -X utf8 .../racksack_agent/__main__.py shell FOLDER`."""
    return (
        len(argv) == 8
        and re.fullmatch(r"python[0-9.]*", Path(argv[0]).name) is not None
        and list(argv[1:5]) == ["-I", "-S", "-X", "utf8"]
        and argv[5].endswith("/racksack_agent/__main__.py")
        and argv[6] == "shell"
    )


def _is_ssh(argv: Sequence[str]) -> bool:
    """`ssh -t -F FILE ALIAS -- COMMAND`; the command runs on the node."""
    is_ours = len(argv) == 7 and list(argv[:3]) == ["ssh", "-t", "-F"] and argv[3].startswith("/")
    return is_ours and re.fullmatch(r"[A-Za-z0-9_.]+", argv[4]) is not None and argv[5] == "--"
