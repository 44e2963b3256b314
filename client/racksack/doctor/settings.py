"""Which controller this machine's commands talk to, and what says so."""

from __future__ import annotations

import os
from pathlib import Path

from racksack.errors import UsageError
from racksack.transport.target import REMOTE_SPOOL, Target, choose_and_say, config_file
from racksack_jobspecs.findings import Finding, failed, ok, warning


def look_at_settings(option: str | None) -> tuple[Target | None, Finding]:
    """The controller, None where what names it cannot be understood."""
    try:
        target, named_by = choose_and_say(option)
    except UsageError as error:
        return None, failed("configuration", str(error))
    if not named_by:
        return target, _embedded(target)
    return target, ok("configuration", f"the controller is {target}, named by {named_by}{_outdone(named_by)}")


def _embedded(target: Target) -> Finding:
    """Nothing names a controller. Where the usual spool is on this machine, that is likely to be a mistake."""
    told = (
        f"no controller configured (--controller, RACKSACK_CONTROLLER, {config_file()}), so this is "
        f"the embedded one of {target}"
    )
    if Path(REMOTE_SPOOL).is_dir():
        return warning("configuration", f"{told}, and not that of {REMOTE_SPOOL}; --controller {REMOTE_SPOOL} names it")
    return ok("configuration", told)


def _outdone(named_by: str) -> str:
    """What else names one and is not heard."""
    file = str(config_file())
    others = []
    if named_by == "--controller" and os.environ.get("RACKSACK_CONTROLLER"):
        others.append("RACKSACK_CONTROLLER")
    if named_by != file and os.access(file, os.F_OK):
        others.append(file)
    return f", which wins over {' and '.join(others)}" if others else ""
