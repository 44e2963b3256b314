"""What runs in the IPMI helper process: it answers each request in a child of its own, on pyghmi.

pyghmi keeps its sockets and sessions in globals that several threads cannot share: four threads talking to four BMCs
lock up for good, and logging in again after a logout finds the dead session. So the helper imports it once, never uses
it, and forks for each request; the child logs in, does one thing, logs out, prints one line and ends. An alarm ends a
child that hangs. Requests and answers are JSON lines on stdin and stdout; passwords come over the pipe, never in argv.

This file is run by path and imports nothing of ours, so that the helper stays small.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

from pyghmi import exceptions
from pyghmi.ipmi import command

PRIVILEGES = {"operator": 3, "admin": 4}
COMMANDS = {"on": "on", "soft_off": "shutdown", "hard_off": "off"}


def answer(request: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """Carry out one request: `{"ok": ...}` or `{"error": words, "code": completion code}`, and the login, if any."""
    try:
        # As bytes: pyghmi forgets to take a session off its list of logins under way when these are str.
        bmc = command.Command(
            bmc=request["host"],
            port=request["port"],
            userid=request["user"].encode(),
            password=request["password"].encode(),
            privlevel=PRIVILEGES[request["privilege"]],
        )
    except exceptions.PyghmiException as error:
        return {"login": True, "error": str(error), "code": 0}, None
    except OSError as error:
        return {"login": True, "error": str(error), "code": 0}, None
    try:
        return {"ok": perform(bmc, request["act"])}, bmc
    except exceptions.PyghmiException as error:
        return {"error": str(error), "code": getattr(error, "ipmicode", 0)}, bmc


def perform(bmc: Any, act: str) -> Any:  # noqa: ANN401 - pyghmi has no types; the result goes out as JSON
    """One act on a logged-in BMC."""
    if act == "status":
        return bmc.get_power()["powerstate"]
    if act == "watts":
        return bmc.get_system_power_watts()
    if act == "check":
        device = bmc._get_device_id()
        return {**device, "powerstate": bmc.get_power()["powerstate"]}
    if bmc.get_power()["powerstate"] == ("on" if act == "on" else "off"):
        return "already"
    try:
        bmc.set_power(COMMANDS[act])
    except exceptions.PyghmiException:
        # Refused, perhaps because the server got there meanwhile.
        if bmc.get_power()["powerstate"] != ("on" if act == "on" else "off"):
            raise
        return "already"
    return "accepted"


def child(line: bytes) -> None:
    """Answer one request and end. The answer is one short write, so that answers do not mix; the logout may fail."""
    request = json.loads(line)
    signal.setitimer(signal.ITIMER_REAL, request["timeout_s"])
    login = None
    try:
        reply, login = answer(request)
    except Exception as error:  # noqa: BLE001 - the last line of a process; the parent turns it into a PowerError
        reply = {"error": f"{type(error).__name__}: {error}", "code": 0, "crash": True}
    if "error" in reply:
        reply["error"] = reply["error"][:500]
    os.write(1, json.dumps({"id": request["id"], **reply}).encode() + b"\n")
    if login is not None:
        login.ipmi_session.logout()


def main() -> None:
    """Fork a child for each line until stdin ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for line in iter(sys.stdin.buffer.readline, b""):
        if os.fork() == 0:
            try:
                child(line)
            finally:
                os._exit(0)


if __name__ == "__main__":
    main()
