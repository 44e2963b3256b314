"""Starts supervisors for attempts that have none: those that a `serve` left behind that died between an attempt's
folder and its supervisor, and those whose supervisor was killed while their program goes on.

The folder is the promise that the attempt runs, so whoever serves the home next keeps it. Nothing of the job ran yet: a
supervisor writes its process id into the lock before all else. Should the dead one's fork server still get to it, the
second supervisor finds the lock taken and ends.
"""

from __future__ import annotations

import os
import time
from typing import List

from racksack_agent import processes, records
from racksack_agent.serve import attempt_records, launching
from racksack_agent.serve.agent import Agent, launch_lock
from racksack_agent.serve.attempts import held, never_began
from racksack_agent.supervisor import reaper
from racksack_agent.supervisor.panes import Pane


def relaunch(agent: Agent, names: List[str]) -> None:
    """Start a session and a supervisor for those that still have none. What cannot be started is lost by and by."""
    if agent.slurm is not None:
        agent.slurm.submitter.again(names)
        return
    if agent.sessions is None:
        return
    again: List[str] = []
    with launch_lock(agent.home):
        for name in names:
            folder = agent.home.attempt(name)
            with held(folder) as ours:
                launch = attempt_records.launch_of(folder) if ours and never_began(folder) else None
            if launch is None:
                continue
            agent.sessions.end(name)
            records.remove_file(folder.pane + ".told")
            launch.update(
                launcher=processes.name_of(os.getpid()), launched_at_s=time.time(),
                launched_monotonic_s=time.monotonic(), limit=agent.limit.of(name),
            )  # fmt: skip
            records.replace(folder.launch, records.encode(launch))
            again.append(name)
        launching.start_each(agent, again)


def take_over(agent: Agent, names: List[str]) -> None:
    """Start another supervisor for programs whose supervisor was killed; it goes on where that one was. The session is
    still there, or is no longer needed. Raises OSError when the fork server cannot be started.
    """
    panes = {}
    for name in names:
        folder = agent.home.attempt(name)
        with held(folder) as ours:
            started = reaper.read_started(folder) if ours and not os.path.exists(folder.exit) else None
        if started is not None:
            panes[name] = Pane(*started.pane)
    agent.forkserver.start(panes, agent.limit)
