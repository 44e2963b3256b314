"""Forks the supervisors of attempts, so that a start costs a fork (1 ms) and not a start of Python with imports (15
ms).

`serve` starts it, writes a JSON line for each attempt into its input, and ends it by closing that. A supervisor is
forked into a session of its own and depends on neither of them from then on.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from typing import Any, Dict, List

from racksack_agent import process_title
from racksack_agent.home import AttemptFolder
from racksack_agent.supervisor import limits, supervise
from racksack_agent.supervisor.panes import Pane


def main(arguments: List[str]) -> None:
    """Serve until the input ends. `--scope`: we were started in a delegated systemd scope, and divide it."""
    scope = limits.divide_scope() if "--scope" in arguments else ""
    process_title.set_title("racksack-agent forkserver")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # supervisors need no parent
    gc.freeze()  # what is there now stays shared with all that are forked
    for line in sys.stdin.buffer:
        start = json.loads(line)
        try:
            child = os.fork()
        except OSError as problem:  # no memory or no process left: the attempt will be found lost
            print(f"no supervisor could be forked for {start['folder']}: {problem}", file=sys.stderr, flush=True)
            continue
        if child == 0:
            become_supervisor(start, scope)
    os._exit(0)


def become_supervisor(start: Dict[str, Any], scope: str) -> None:
    """Let go of everything of the fork server, then supervise. Never returns."""
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        os.close(nothing)
        supervise.run(AttemptFolder(start["folder"]), Pane(start["terminal"], start["pid"]), scope)
    finally:
        os._exit(0)
