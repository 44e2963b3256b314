"""Counts the people who are logged in, so that a node is not switched off under them."""

from __future__ import annotations

import struct

# Linux utmp(5): type, process, line, id, user, host, exit status, session, time, address.
_RECORD = struct.Struct("hi32s4s32s256shhiii4i20x")
_USER_PROCESS = 7


def count_logins(path: str = "/run/utmp") -> int:
    """Login sessions in utmp. Panes of tmux and screen are entered there too; they are not logins."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError:
        return 0
    count = 0
    for start in range(0, len(data) - _RECORD.size + 1, _RECORD.size):
        kind, _, _, _, _, host = _RECORD.unpack_from(data, start)[:6]
        if kind == _USER_PROCESS and not _is_pane(host.rstrip(b"\0")):
            count += 1
    return count


def _is_pane(host: bytes) -> bool:
    return host.startswith((b"tmux(", b":pts/")) or b":S." in host
