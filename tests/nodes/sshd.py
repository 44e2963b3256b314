"""A real sshd on a loopback port, for the user that runs the tests: own host key, own authorised key."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import psutil
from uv import find_uv_bin

from racksack_controller.nodes.settings import SshSettings

CONFIG = """\
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
PrintMotd no
MaxStartups 100
LogLevel ERROR
SetEnv SHLVL=2
ForceCommand {command}
"""
# What the login shell's start files do on the machine that runs the tests is not the matter here: bash reads ~/.bashrc
# below a fresh sshd alone (SHLVL), and PATH is set after any other shell's.
COMMAND = 'PATH={path} /bin/sh -c "$SSH_ORIGINAL_COMMAND"'
USUAL = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PATH = f"{USUAL}:{Path(find_uv_bin()).parent}"  # with uv: pushing it has a test of its own


def why_not() -> str | None:
    """What is missing to run an sshd here."""
    for program in ("sshd", "ssh", "ssh-keygen", "rsync"):
        if find(program) is None:
            return f"{program} is not installed"
    return None


def find(program: str) -> str | None:
    """A program, also where only root's PATH has it."""
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


class Sshd:
    """One server; `start` and `stop` as often as needed, always on the same port."""

    def __init__(self, folder: Path, command: str = "", path: str = PATH) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self.new_host_key()
        make_key(folder / "id")
        (folder / "authorized_keys").write_text((folder / "id.pub").read_text())
        (folder / "config").write_text(CONFIG.format(folder=folder, command=command or COMMAND.format(path=path)))
        self._process: subprocess.Popen[bytes] | None = None

    def new_host_key(self, kind: str = "ed25519") -> None:
        """As if the machine had been installed anew."""
        make_key(self.folder / "host_key", kind)

    @property
    def host_key(self) -> str:
        return " ".join((self.folder / "host_key.pub").read_text().split()[:2])

    def settings(self, home: Path, jump: SshSettings | None = None, **changes: object) -> SshSettings:
        """How to reach it."""
        values: dict[str, object] = {
            "host": "127.0.0.1",
            "port": self.port,
            "user": psutil.Process().username(),
            "identity": self.folder / "id",
            "host_key": self.host_key,
            "home": str(home),
            "jump": jump,
        }
        return SshSettings(**(values | changes))  # type: ignore[arg-type]

    def start(self) -> None:
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # else sshd as root does not start
        command = [find("sshd") or "sshd", "-D", "-e", "-p", str(self.port), "-f", str(self.folder / "config")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 20
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"sshd does not listen: {(self.folder / 'log').read_text()[-500:]}")
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                return connection.recv(4).startswith(b"SSH")
        except OSError:
            return False

    def sessions(self) -> list[psutil.Process]:
        """The processes that serve connections now (not what runs in them)."""
        if self._process is None:
            return []
        children = psutil.Process(self._process.pid).children(recursive=True)
        return [child for child in children if name_of(child).startswith("sshd")]

    def cut(self) -> None:
        """Break every connection at once; new ones are accepted."""
        for session in self.sessions():
            kill(session)

    def stop(self) -> None:
        """Break every connection and refuse new ones."""
        if self._process is None:
            return
        self.cut()
        self._process.kill()
        self._process.wait(timeout=20)
        self._process = None


def name_of(process: psutil.Process) -> str:
    """Its name; empty if it ended meanwhile."""
    try:
        return str(process.name())
    except psutil.NoSuchProcess:
        return ""


def kill(process: psutil.Process) -> None:
    """SIGKILL, unless it ended by itself."""
    try:
        process.send_signal(signal.SIGKILL)
    except psutil.NoSuchProcess:
        return


def make_key(path: Path, kind: str = "ed25519") -> None:
    """A key pair without a passphrase, in place of the one before."""
    for old in (path, path.with_name(path.name + ".pub")):
        old.unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "test", "-f", str(path)], check=True, timeout=60)


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
