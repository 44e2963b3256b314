"""The configuration as it was loaded against the file as it is now."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from racksack_controller.config.changes import ConfigChanges, config_changes
from racksack_controller.config.config import Config, ConfigError
from racksack_jobspecs.findings import Finding, failed, ok, warning

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
        return [ok("configuration", "no file: this machine is the only node")]
    path = loaded.now.path
    try:
        on_disk = loaded.reread()
    except ConfigError as error:
        return _of_mistakes(error)
    changes = config_changes(loaded.now, on_disk, loaded.at_start)
    nodes = _nodes(changes)
    by_reload = [*([f"nodes ({nodes})"] if nodes else []), *changes.settings]
    by_restart = changes.restart_for
    if not by_reload and not by_restart:
        return [ok("configuration", f"{path} is loaded as it is")]
    remedies = [f"{', '.join(by_reload)}: run `racksack controller reload`"] if by_reload else []
    remedies += [f"{', '.join(by_restart)}: restart the controller, jobs go on"] if by_restart else []
    return [warning("configuration", f"{path} was changed but not applied; {'; '.join(remedies)}")]


def _of_mistakes(error: ConfigError) -> list[Finding]:
    count = len(error.problems)
    mistakes = "a mistake" if count == 1 else f"{count} mistakes"
    shown = "; ".join(str(problem) for problem in error.problems[:SHOWN_MAX])
    more = f"; and {count - SHOWN_MAX} more" if count > SHOWN_MAX else ""
    told = (
        f"{error.path} has {mistakes}, so the controller cannot reload it or start with it; see `racksack config check`"
    )
    return [failed("configuration", told), failed(MISTAKES, f"{shown}{more}")]


def _nodes(changes: ConfigChanges) -> str:
    words = [f"{name} is gone" for name in changes.removed] + [f"{name} is new" for name in changes.added]
    words += [f"{name} is changed" for name in changes.changed]
    more = f" and {len(words) - SHOWN_MAX} more" if len(words) > SHOWN_MAX else ""
    return ", ".join(sorted(words)[:SHOWN_MAX]) + more
