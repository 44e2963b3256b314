"""Tokens: who a caller over TCP is, by `Authorization: Bearer TOKEN` and a file of tokens.

The file has a line for each: `USER TOKEN`, or a token alone, which stands for the controller's own user. It is read at
each use, so that a token can be taken back without a restart, and is refused while others may read it.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import pwd
from pathlib import Path

log = logging.getLogger("racksack.web")

FILE_BYTES_MAX = 64 * 1024
TOKEN_CHARS_MIN = 16


class Tokens:
    """The tokens of one file; without a file nobody has one."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def user_of(self, authorization: str | None) -> tuple[str, int] | None:
        """The name and uid of the user whose token stands in a request's header, or None."""
        kind, _, given = (authorization or "").partition(" ")
        if self._path is None or kind.lower() != "bearer" or len(given.strip()) < TOKEN_CHARS_MIN:
            return None
        wanted = _digest(given.strip())
        found: str | None = None
        for user, token in self._entries():
            if hmac.compare_digest(wanted, _digest(token)):  # all are compared, so that time tells nothing
                found = user
        return _account(found) if found is not None else None

    def _entries(self) -> list[tuple[str, str]]:
        assert self._path is not None  # noqa: S101 - the caller looked
        try:
            with open(self._path, "rb") as file:
                if os.fstat(file.fileno()).st_mode & 0o077:
                    log.error("the token file %s can be read by others, so it is not used; chmod 600 it", self._path)
                    return []
                text = file.read(FILE_BYTES_MAX).decode()
        except (OSError, UnicodeDecodeError) as error:
            log.error("the token file %s cannot be read: %s", self._path, error)
            return []
        return [entry for line in text.splitlines() if (entry := _entry(line)) is not None]


def _entry(line: str) -> tuple[str, str] | None:
    words = line.split()
    if not words or words[0].startswith("#") or len(words) > 2 or len(words[-1]) < TOKEN_CHARS_MIN:
        return None
    return (words[0], words[1]) if len(words) == 2 else (str(os.geteuid()), words[0])


def _account(user: str) -> tuple[str, int] | None:
    try:
        account = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except KeyError:
        if user.isdecimal():
            return user, int(user)
        log.error("the token file names %s, who is not a user of this machine", user)
        return None
    return account.pw_name, account.pw_uid


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()  # a header may hold any bytes
