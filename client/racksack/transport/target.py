"""Which controller a command talks to.

In this order: `--controller`, the variable RACKSACK_CONTROLLER, `controller:` in client.yaml, the controller that is
installed on this machine where its configuration may be read (so for root), and else the embedded controller of this
machine, whose home is RACKSACK_HOME or `racksack` in the XDG state folder. RACKSACK_HOME asks for the embedded one.

A controller is written `user@host`, `host` (an alias of ~/.ssh/config does), `user@host:/spool/path` or
`/path/to/spool`.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from racksack.errors import UsageError

REMOTE_SPOOL = "/var/lib/racksack"
INSTALLED = Path("/etc/racksack/racksack.yaml")
_REMOTE = re.compile(r"(?P<host>[^/\s-][^/\s]*?)(?::(?P<spool>/.*))?")
_FORMS = "write user@host, user@host:/path/to/spool, host or /path/to/spool"


@dataclass(frozen=True)
class Target:
    """One controller, by the place of its spool."""

    spool: str  # absolute path on the controller's machine
    host: str | None = None  # what ssh is given; None: this machine
    home: Path | None = None  # of the embedded controller, which is started when it does not run

    @property
    def socket(self) -> str:
        """Path of the controller's socket, on its machine."""
        return f"{self.spool}/controller.sock"

    def __str__(self) -> str:
        """For sentences."""
        if self.home is not None:
            return f"this machine ({self.home})"
        return self.spool if self.host is None else f"{self.host}:{self.spool}"


def xdg_folder(variable: str, default: str) -> Path:
    """The racksack folder under an XDG base directory."""
    base = os.environ.get(variable, "")
    return (Path(base) if base.startswith("/") else Path.home() / default) / "racksack"


def cache_folder() -> Path:
    """What can be lost without harm: digests of files, names of unfinished uploads."""
    return xdg_folder("XDG_CACHE_HOME", ".cache")


def embedded_home() -> Path:
    """Home of the embedded controller."""
    chosen = os.environ.get("RACKSACK_HOME")
    return Path(chosen).expanduser().absolute() if chosen else xdg_folder("XDG_STATE_HOME", ".local/state")


def config_file() -> Path:
    """Where client.yaml is looked for."""
    return xdg_folder("XDG_CONFIG_HOME", ".config") / "client.yaml"


def choose(option: str | None = None) -> Target:
    """The controller to talk to. Raises UsageError when what names it cannot be understood."""
    return choose_and_say(option)[0]


def choose_and_say(option: str | None = None) -> tuple[Target, str]:
    """The controller to talk to, and what named it: empty where nothing did. Raises UsageError as `choose`."""
    if option:
        return parse(option, "--controller"), "--controller"
    variable = os.environ.get("RACKSACK_CONTROLLER")
    if variable:
        return parse(variable, "RACKSACK_CONTROLLER"), "RACKSACK_CONTROLLER"
    file = config_file()
    configured = _configured(file)
    if configured is not None:
        return parse(configured, str(file)), str(file)
    if not os.environ.get("RACKSACK_HOME") and (spool := _installed(INSTALLED)) is not None:
        return Target(spool=spool), str(INSTALLED)
    home = embedded_home()
    return Target(spool=str(home / "spool"), home=home), ""


def parse(text: str, source: str) -> Target:
    """Read a controller's name; `source` is where it was written, for the error."""
    text = text.strip()
    if text.startswith(("/", "./", "../", "~")):
        return Target(spool=str(Path(text).expanduser().absolute()))
    match = _REMOTE.fullmatch(text)
    # One colon is neither an IPv6 address nor the beginning of an absolute path.
    if match is None or match["host"].count(":") == 1 or not text.isprintable():
        raise UsageError(f"{source}: {text!r} does not name a controller; {_FORMS}")
    spool = match["spool"] or REMOTE_SPOOL
    return Target(spool=spool.rstrip("/") or "/", host=match["host"])


def _installed(path: Path) -> str | None:
    """The spool of the controller that is installed here; None where there is none, or not for this user.

    A file with mistakes is not our matter: whatever else it says, the usual spool is meant.
    """
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return None
    found = re.search(r"""^spool:[ \t]*["']?(/[^"'#\n]*)""", text, re.MULTILINE)
    return found[1].strip() if found is not None else REMOTE_SPOOL


def _configured(path: Path) -> str | None:
    """`controller` of client.yaml, or None when there is no such file or no such key."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    import yaml

    try:
        content = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or set(content) - {"controller"}:
        raise UsageError(f"{path}: the only key allowed here is `controller: user@host`")
    chosen = content.get("controller")
    if chosen is not None and not isinstance(chosen, str):
        raise UsageError(f"{path}: {chosen!r} does not name a controller; {_FORMS}")
    return chosen
