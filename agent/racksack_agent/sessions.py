"""Terminal sessions: each attempt has its own session of tmux, or of screen where there is no tmux.

The sockets are our own, in a short path in /tmp (a socket's path has 107 bytes at most, a home may be longer) that
belongs to this user alone. A session's end is no news by itself and a session's loss ends no job: it holds only the
terminal (see `panes`).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import time
from typing import Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from racksack_agent import private_tmp, processes
from racksack_agent.home import AttemptFolder, Home
from racksack_agent.supervisor.panes import Pane, keeper

Started = Tuple[Dict[str, Pane], Dict[str, str]]

_BATCH_BYTES_MAX = 12_000  # tmux takes a command of at most 16 KiB
_TIMEOUT_S = 30.0
_TELL_S = 10.0
_RESTORE_S = 2.0
# Without `exit-empty off` the server may end between two sessions; naming windows would cost a look every half second.
_SERVER_OPTIONS = (
    ("start-server",),
    ("set-option", "-s", "exit-empty", "off"),
    ("set-option", "-g", "automatic-rename", "off"),
    ("set-option", "-g", "history-limit", "10000"),
    ("set-option", "-g", "status", "off"),
)


class Sessions:
    """The sessions of one home; a subclass for each program."""

    kind = ""

    def __init__(self, program: str, socket: str, home: Home) -> None:
        self.program = program
        self.socket = socket
        self._folder = home.root

    def name_of(self, attempt: str) -> str:
        """The session's name. A dot would be read as window and pane by tmux."""
        return "racksack-" + attempt.replace(".", "-")

    def start(self, folders: Sequence[AttemptFolder]) -> Started:
        """Start a session for each attempt: the panes, and a sentence for each that could not be started."""
        raise NotImplementedError

    def end(self, attempt: str) -> None:
        """End a session; none is fine."""
        raise NotImplementedError

    def names(self) -> set[str]:
        """The sessions that there are."""
        raise NotImplementedError

    def close(self) -> None:
        """End what serves the sessions; there are none any more."""

    def attach_command(self, attempt: str) -> list[str]:
        """What a person runs to see the session and type into it."""
        raise NotImplementedError

    def view_command(self, attempt: str) -> list[str]:
        """What a person runs to only see it; empty where the program has no way."""
        raise NotImplementedError

    def _run(self, argv: Sequence[str], extra: Optional[Dict[str, str]] = None) -> subprocess.CompletedProcess[str]:
        kept = {name: os.environ[name] for name in ("HOME", "USER", "LOGNAME", "PATH", "SHELL") if name in os.environ}
        env = {**kept, "LANG": "C.UTF-8", "TERM": "dumb", **(extra or {})}
        try:
            return subprocess.run(
                argv, env=env, cwd=self._folder, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8",
                errors="replace", timeout=_TIMEOUT_S, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as problem:
            return subprocess.CompletedProcess(argv, 1, "", f"{self.program}: {problem}")


class Tmux(Sessions):
    """tmux: many sessions are started by one client, which costs 2 ms each instead of 5."""

    kind = "tmux"

    def _command(self, *words: str) -> list[str]:
        return [self.program, "-S", self.socket, "-f", "/dev/null", "-u", *words]

    def start(self, folders: Sequence[AttemptFolder]) -> Started:
        """See Sessions."""
        panes: Dict[str, Pane] = {}
        problems: Dict[str, str] = {}
        self._restore_socket()
        for batch in _batches({folder.name: self._new(folder) for folder in folders}):
            done = self._run_all(batch.values())
            panes.update(self._read_panes(batch, done.stdout))
            for name in batch.keys() - panes.keys():  # a batch stops at its first failure: try the rest one by one
                done = self._run_all([batch[name]])
                panes.update(self._read_panes([name], done.stdout))
                if name not in panes:
                    problems[name] = f"tmux could not start a session: {done.stderr.strip()[-300:]}"
        return panes, problems

    def _run_all(self, commands: Iterable[Sequence[str]]) -> subprocess.CompletedProcess[str]:
        return self._run(self._command(*(word for words in (*_SERVER_OPTIONS, *commands) for word in (*words, ";"))))

    def _new(self, folder: AttemptFolder) -> List[str]:
        words = ["new-session", "-d", "-P", "-F", "#{session_name} #{pane_tty} #{pane_pid}", "-x", "200", "-y", "50"]
        return [*words, "-s", self.name_of(folder.name), *keeper(folder)]

    def _read_panes(self, attempts: Iterable[str], printed: str) -> Dict[str, Pane]:
        told = {words[0]: Pane(words[1], int(words[2])) for words in map(str.split, printed.splitlines())}
        return {name: told[self.name_of(name)] for name in attempts if self.name_of(name) in told}

    def end(self, attempt: str) -> None:
        """See Sessions."""
        self._run(self._command("kill-session", "-t", "=" + self.name_of(attempt)))

    def names(self) -> set[str]:
        """See Sessions."""
        return set(self._run(self._command("list-sessions", "-F", "#{session_name}")).stdout.split())

    def close(self) -> None:
        """See Sessions."""
        self._restore_socket()
        if os.path.exists(self.socket):
            self._run(self._command("kill-server"))

    def _restore_socket(self) -> None:
        """Have a server make its socket again that something removed from /tmp: without it nobody reaches the sessions,
        and another server would start beside it. SIGUSR1 is tmux's own way. Raises OSError for a folder of somebody
        else.
        """
        if os.path.exists(self.socket):
            return
        private_tmp.folder()
        servers = processes.with_argument(os.fsencode(self.socket), b"tmux: server")
        processes.send(servers, signal.SIGUSR1)
        give_up_s = time.monotonic() + _RESTORE_S
        while servers and not os.path.exists(self.socket) and time.monotonic() < give_up_s:
            time.sleep(0.01)

    def attach_command(self, attempt: str) -> list[str]:
        """See Sessions. `=` asks for the exact name."""
        return self._command("attach-session", "-t", "=" + self.name_of(attempt))

    def view_command(self, attempt: str) -> list[str]:
        """See Sessions."""
        return self._command("attach-session", "-r", "-t", "=" + self.name_of(attempt))


class Screen(Sessions):
    """GNU screen; its socket is a folder."""

    kind = "screen"

    def start(self, folders: Sequence[AttemptFolder]) -> Started:
        """See Sessions. Screen does not tell the terminal, so the program in it does."""
        panes: Dict[str, Pane] = {}
        problems: Dict[str, str] = {}
        private_tmp.folder()
        os.makedirs(self.socket, mode=0o700, exist_ok=True)
        for folder in folders:
            words = [
                self.program,
                "-c",
                "/dev/null",
                "-U",
                "-dmS",
                self.name_of(folder.name),
                *keeper(folder, tells=True),
            ]
            done = self._run(words, {"SCREENDIR": self.socket})
            if done.returncode != 0:
                said = (done.stderr or done.stdout).strip()[-300:]
                problems[folder.name] = f"screen could not start a session: {said}"
        give_up_s = time.monotonic() + _TELL_S
        for folder in folders:
            pane = None if folder.name in problems else told_pane(folder, give_up_s)
            if pane:
                panes[folder.name] = pane
            else:
                problems.setdefault(folder.name, "screen started a session, but its program does not answer")
        return panes, problems

    def end(self, attempt: str) -> None:
        """See Sessions."""
        self._run([self.program, "-S", self.name_of(attempt), "-X", "quit"], {"SCREENDIR": self.socket})

    def names(self) -> set[str]:
        """See Sessions."""
        listed = self._run([self.program, "-ls"], {"SCREENDIR": self.socket}).stdout
        words = [line.split()[0] for line in listed.splitlines() if line.startswith("\t")]
        return {word.partition(".")[2] for word in words}

    def attach_command(self, attempt: str) -> list[str]:
        """See Sessions."""
        return ["env", "SCREENDIR=" + self.socket, self.program, "-x", self.name_of(attempt)]

    def view_command(self, attempt: str) -> list[str]:
        """See Sessions. Screen keeps such rights per user, and this is the same one."""
        return []


def told_pane(folder: AttemptFolder, give_up_s: float) -> Optional[Pane]:
    """What the program in a pane wrote down about itself; None when it has not by then (monotonic seconds)."""
    while time.monotonic() < give_up_s:
        try:
            with open(folder.pane + ".told", encoding="ascii") as file:
                terminal, pid = file.read().split()
        except FileNotFoundError:
            time.sleep(0.005)
        else:
            return Pane(terminal, int(pid))
    return None


def _batches(parts: Mapping[str, Sequence[str]]) -> list[Dict[str, Sequence[str]]]:
    batches: list[Dict[str, Sequence[str]]] = []
    size = _BATCH_BYTES_MAX
    for name, words in parts.items():
        length = sum(len(os.fsencode(word)) + 1 for word in words) + 2
        if size + length > _BATCH_BYTES_MAX:
            batches.append({})
            size = 0
        batches[-1][name] = words
        size += length
    return batches


def open_sessions(home: Home, wanted: Optional[str]) -> Optional[Sessions]:
    """What this node has, tmux first; None where it has neither. Raises OSError for a socket folder of somebody
    else.
    """
    kinds: Dict[str, type[Sessions]] = {"tmux": Tmux, "screen": Screen}
    for kind, maker in kinds.items():
        program = shutil.which(kind)
        if program and wanted in (None, kind):
            return maker(program, f"{private_tmp.folder()}/{home_key(home)}.{kind}", home)
    return None


def home_key(home: Home) -> str:
    """Tells homes of one user apart in names outside of them."""
    return hashlib.sha256(os.fsencode(home.root)).hexdigest()[:12]
