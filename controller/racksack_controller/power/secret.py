"""Passwords: read from a file or a systemd credential at the moment of use, and held nowhere.

A `Secret` knows where a password is, not what it is, so it can be compared, printed and logged.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

SECRET_BYTES_MAX = 4096


class SecretError(Exception):
    """A password cannot be read; the message says which, why and how to fix it, without the password."""


@dataclass(frozen=True, slots=True)
class Secret:
    """Where a password is: a file, or the name of a systemd credential."""

    file: Path | None = None
    credential: str | None = None

    def read(self) -> str:
        """The password, without the line end after it. Raises SecretError."""
        path = self._path()
        try:
            with path.open("rb") as file:
                text = file.read(SECRET_BYTES_MAX).decode()
        except OSError as error:
            raise SecretError(f"the password file {path} cannot be read ({error.strerror or error})") from error
        except UnicodeDecodeError:
            raise SecretError(f"the password file {path} is not UTF-8 text") from None
        password = text.rstrip("\r\n")
        if not password:
            raise SecretError(f"the password file {path} is empty")
        return password

    def scrub(self, text: str) -> str:
        """`text` without the password, for words that a device sent back."""
        try:
            return text.replace(self.read(), "***")
        except SecretError:
            return text

    def exposed(self) -> str | None:
        """A sentence when others on this machine can read the file; None when they cannot, or it cannot be told."""
        try:
            path = self._path()
            mode = path.stat().st_mode & 0o777
        except (OSError, SecretError):
            return None
        if mode & 0o077 and self.credential is None:
            return f"the password file {path} can be read by others (mode {mode:03o}); run chmod 600 on it"
        return None

    def _path(self) -> Path:
        if self.file is not None:
            return self.file
        directory = os.environ.get("CREDENTIALS_DIRECTORY")
        if not directory:
            raise SecretError(
                f"the credential {self.credential!r} is not available: this process has no CREDENTIALS_DIRECTORY"
            )
        return Path(directory) / str(self.credential)
