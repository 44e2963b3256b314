"""The configuration as it was loaded against the file as it is now."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from racksack_controller.config.config import Config, ConfigError, NodeConfig
from racksack_jobspecs.findings import Finding, failed, ok, warning

RELOADED = ("nodes", "partitions", "notify", "scheduling")  # what a reload puts to use; all else needs a restart
SHOWN_MAX = 5
MISTAKES = "mistakes"


class Loaded(msgspec.Struct, frozen=True):
    """What a controller works with: the configuration of its start, and that of its last reload."""

    at_start: Config
    now: Config
    reread: Callable[[], Config] | None  # the file as it is now, or ConfigError; None: no file stands behind it


def look_at_configuration(loaded: Loaded) -> list[Finding]:
    """Whether the file is good, and whether it says what is in use. Blocks.

    The mistakes themselves are a finding of their own, MISTAKES: they quote the file.
    """
    if loaded.reread is None:
        return [ok("configuration", "no file: this machine is the one node")]
    path = loaded.now.path
    try:
        on_disk = loaded.reread()
    except ConfigError as error:
        return _of_mistakes(error)
    by_reload = [_told(name, loaded.now, on_disk) for name in RELOADED if _differs(name, loaded.now, on_disk)]
    by_restart = [name for name in _by_restart() if _differs(name, loaded.at_start, on_disk)]
    if not by_reload and not by_restart:
        return [ok("configuration", f"{path} is in use as it is")]
    remedies = [f"{', '.join(by_reload)}: run `racksack controller reload`"] if by_reload else []
    remedies += [f"{', '.join(by_restart)}: restart the controller, jobs go on"] if by_restart else []
    return [warning("configuration", f"{path} was changed and not put to use; {'; '.join(remedies)}")]


def _by_restart() -> list[str]:
    return [name for name in Config.__struct_fields__ if name not in (*RELOADED, "path")]


def _differs(name: str, one: Config, other: Config) -> bool:
    return bool(getattr(one, name) != getattr(other, name))


def _of_mistakes(error: ConfigError) -> list[Finding]:
    count = len(error.problems)
    mistakes = "a mistake" if count == 1 else f"{count} mistakes"
    shown = "; ".join(str(problem) for problem in error.problems[:SHOWN_MAX])
    more = f"; and {count - SHOWN_MAX} more" if count > SHOWN_MAX else ""
    told = f"{error.path} has {mistakes}, so it can neither be reloaded nor started with; see `racksack config check`"
    return [failed("configuration", told), failed(MISTAKES, f"{shown}{more}")]


def _told(name: str, loaded: Config, on_disk: Config) -> str:
    """The name of a setting; of the nodes also which."""
    if name != "nodes":
        return name
    changes = [f"{node} {change}" for node, change in _changed(loaded.nodes, on_disk.nodes).items()]
    more = f" and {len(changes) - SHOWN_MAX} more" if len(changes) > SHOWN_MAX else ""
    return f"nodes ({', '.join(changes[:SHOWN_MAX])}{more})"


def _changed(before: dict[str, NodeConfig], after: dict[str, NodeConfig]) -> dict[str, str]:
    words = {name: "is gone" for name in before if name not in after}
    for name, node in after.items():
        if name not in before:
            words[name] = "is new"
        elif before[name] != node:
            words[name] = "is changed"
    return words
