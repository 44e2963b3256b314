"""A real sshd on 127.0.0.1 for the benchmarks, with keys of its own, and ssh set up to reach it as `bench`."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.harness import CannotMeasureError, wait_for

PORT = 2222

SERVER = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile {folder}/sshd.pid
PermitRootLogin yes
PasswordAuthentication no
UsePAM no
StrictModes no
MaxStartups 100
MaxSessions 100
SetEnv SHLVL=1
Subsystem sftp internal-sftp
"""

CLIENT = """\
Host bench
    HostName 127.0.0.1
    Port {port}
    User root
    IdentityFile {folder}/user_key
    IdentitiesOnly yes
    UserKnownHostsFile {folder}/known_hosts
"""

# What one adds to keep a connection open.
SHARED = """\
Host bench-open
    HostName 127.0.0.1
    Port {port}
    User root
    IdentityFile {folder}/user_key
    IdentitiesOnly yes
    UserKnownHostsFile {folder}/known_hosts
    ControlMaster auto
    ControlPath {folder}/control-%C
    ControlPersist yes
"""


@dataclass(frozen=True)
class Sshd:
    """How to reach it. `bench` makes a new connection each time, `bench-open` shares one that stays open."""

    identity: Path
    host_key: str  # as known_hosts and `host_key:` write it
    host: str = "127.0.0.1"
    port: int = PORT


def _key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bench", "-f", path], check=True)


def _answers() -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", PORT), timeout=1):
        return True
    return False


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Sshd]:
    """Start it, wait until it answers, end it. Raises CannotMeasureError where there is no sshd."""
    program = Path("/usr/sbin/sshd")
    if not program.exists():
        raise CannotMeasureError("sshd is not installed")
    folder.mkdir(parents=True, exist_ok=True)
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    _key(folder / "host_key")
    _key(folder / "user_key")
    kind, key, *_comment = (folder / "host_key.pub").read_text().split()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{PORT} {kind} {key}\n")
    (folder / "sshd_config").write_text(SERVER.format(port=PORT, folder=folder))
    config = Path("~root").expanduser() / ".ssh" / "config"
    config.write_text(CLIENT.format(port=PORT, folder=folder) + SHARED.format(port=PORT, folder=folder))
    config.chmod(0o600)
    log = (folder / "sshd.log").open("wb")
    server = subprocess.Popen([program, "-D", "-e", "-f", folder / "sshd_config"], stderr=log)
    try:
        wait_for(_answers, "an answer of sshd", 10)
        subprocess.run(["ssh", "bench-open", "true"], check=True)
        yield Sshd(folder / "user_key", f"{kind} {key}")
    finally:
        subprocess.run(["ssh", "-O", "exit", "bench-open"], check=False, stderr=subprocess.DEVNULL)
        server.terminate()
        server.wait()
        log.close()
