"""Which controller this machine's commands talk to, and what says so."""

from __future__ import annotations

import os

from racksack.errors import UsageError
from racksack.target import Target, choose_and_say, config_file
from racksack_jobspecs.findings import Finding, failed, ok


def look_at_settings(option: str | None) -> tuple[Target | None, Finding]:
    """The controller, None where what names it cannot be understood."""
    try:
        target, named_by = choose_and_say(option)
    except UsageError as error:
        return None, failed("configuration", str(error))
    if not named_by:
        return target, ok(
            "configuration",
            f"nothing names a controller (neither --controller, nor RACKSACK_CONTROLLER, nor {config_file()}), so it "
            f"is the embedded one of {target}",
        )
    return target, ok("configuration", f"the controller is {target}, named by {named_by}{_outdone(named_by)}")


def _outdone(named_by: str) -> str:
    """What else names one and is not heard."""
    file = str(config_file())
    others = []
    if named_by == "--controller" and os.environ.get("RACKSACK_CONTROLLER"):
        others.append("RACKSACK_CONTROLLER")
    if named_by != file and config_file().exists():
        others.append(file)
    return f", which wins over {' and '.join(others)}" if others else ""
