"""What proves that a node is up, that it runs on in the boot that was to end, and that it is silent."""

from __future__ import annotations

import asyncio
from time import monotonic

from racksack_controller.core.power_records import Phase
from racksack_controller.core.state import State
from racksack_controller.nodes.answering import Answers
from racksack_controller.power.ssh import Run

LOOK_EVERY_S = 0.2
SILENT_LOOKS_MIN = 3
# What systemd says while it neither goes down nor is gone. Another init is going down when it lets nobody log in any
# more, or while a program of such a name runs.
RUNNING_WORDS = ("initializing", "starting", "running", "degraded", "maintenance")
_RUNNING = """
cat /proc/sys/kernel/random/boot_id
said=$(systemctl is-system-running 2>/dev/null)
case "$said" in ""|offline|unknown) ;; *) echo "$said"; exit ;; esac
for file in /run/nologin /etc/nologin; do [ -e $file ] && echo stopping && exit; done
for file in /proc/[0-9]*/comm; do
    name=""
    read -r name 2>/dev/null <$file
    case "$name" in shutdown|poweroff|halt|reboot|telinit) echo stopping; exit ;; esac
done
echo running
"""
RUNNING_COMMAND = ("sh", "-c", _RUNNING)


async def until_up(state: State, node: str, old_boot_id: str) -> None:
    """Return once the node's agent has answered from a boot other than `old_boot_id`, or is believed to be on."""
    while True:
        record, power = state.nodes.get(node), state.power.get(node)
        if record is not None and record.connected and record.boot_id != old_boot_id:
            return
        if power is not None and power.phase is Phase.ON:
            return
        await asyncio.sleep(LOOK_EVERY_S)


async def silence(answers: Answers, quiet_s: float, poll_s: float) -> None:
    """Return once the node has not answered for `quiet_s`, seen several times; never while the way to it is broken."""
    since: float | None = None
    looks = 0
    while True:
        asked = monotonic()
        if await answers() is False:
            since = asked if since is None else since
            looks += 1
            if looks >= SILENT_LOOKS_MIN and monotonic() - since >= quiet_s:
                return
        else:
            since, looks = None, 0
        await asyncio.sleep(min(poll_s, quiet_s / SILENT_LOOKS_MIN))


async def runs_on(run: Run, boot_id: str) -> bool:
    """Whether a node runs in this boot and no shutdown is under way there. False: not so, or not known."""
    try:
        _, stdout, _ = await run(RUNNING_COMMAND)
    except OSError:
        return False
    words = stdout.split()
    return len(words) == 2 and words[0] == boot_id and words[1] in RUNNING_WORDS
