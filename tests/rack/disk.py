"""What lies on a server's disk before its first boot: accounts, sshd's settings, the commands that switch it off.

The disk is the upper layer of an overlay whose lower layer is the machine itself, so a server has the machine's
programs and nothing it writes reaches the machine. `home` is a directory of its own that outlives every power cycle,
as the upper layer does.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from pathlib import Path

from tests.rack import identities, layout
from tests.rack.layout import RackSpec, ServerSpec

CHECKOUT = Path(__file__).resolve().parents[2]
_EMPTY_AT_BOOT = ("/tmp", "/run", "/dev", "/home")
_OVERLAY_MAGIC_TYPES = ("overlay", "aufs")
_ROOMY_BYTES = 4 << 30

_SSHD_CONFIG = """\
HostKey /etc/ssh/rack_host_key
AuthorizedKeysFile .ssh/authorized_keys
AuthenticationMethods publickey
PermitRootLogin {root}
UsePAM no
UseDNS no
PrintMotd no
PrintLastLog no
MaxSessions 200
MaxStartups 200:30:400
AllowTcpForwarding yes
AcceptEnv LANG LC_*
# With SHLVL set, bash takes a command for what it is and does not read root's .bashrc, which may be slow.
SetEnv SHLVL=1
Subsystem sftp internal-sftp
"""

_POWER_OFF = """\
#!/bin/sh
# Asks the server's PID 1 for an orderly power-off, as the real command asks systemd.
if [ "$(id -u)" != 0 ]; then
    echo "Failed to power off system: Interactive authentication required." >&2
    exit 1
fi
kill -USR2 1
"""

_SHUTDOWN = """\
#!/bin/sh
# `shutdown [-h|-P] [now|+0]`; anything else is said to be beyond this server.
for argument in "$@"; do
    case "$argument" in
        -h|-P|--poweroff|--halt|now|+0) ;;
        *) echo "shutdown: this server cannot do '$argument'; use: shutdown -h now" >&2; exit 1 ;;
    esac
done
exec /usr/sbin/poweroff
"""

_SYSTEMCTL = """\
#!/bin/sh
# PID 1 of this server is not systemd: it knows how to power off, and whether it is going down.
for argument in "$@"; do
    case "$argument" in
        -*) ;;
        poweroff|halt) exec /usr/sbin/poweroff ;;
        is-system-running) [ -e /run/stopping ] && echo stopping && exit 1; echo running; exit 0 ;;
        *) break ;;
    esac
done
echo "System has not been booted with systemd as init system (PID 1). Can't operate." >&2
exit 1
"""

_SUDOERS = "{users} ALL=(root) NOPASSWD: /usr/sbin/poweroff, /usr/sbin/shutdown, /usr/bin/systemctl poweroff\n"


def disks_root() -> Path:
    """A directory on a file system that can hold an overlay's upper layer, memory preferred where there is plenty."""
    chosen = os.environ.get("RACKSACK_RACK_DISKS")
    if chosen:
        return Path(chosen)
    memory = Path("/dev/shm")
    if memory.is_dir() and shutil.disk_usage(memory).free >= _ROOMY_BYTES:
        return memory
    for candidate in (Path(tempfile.gettempdir()), Path("/var/tmp"), memory):
        if candidate.is_dir() and _filesystem(candidate) not in _OVERLAY_MAGIC_TYPES:
            return candidate
    raise RuntimeError("no directory for the servers' disks: name one on a plain disk in RACKSACK_RACK_DISKS")


def _filesystem(path: Path) -> str:
    """The type of the file system that holds a path: the longest mount point that leads to it."""
    best, kind = "", ""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        mount_point = before.split()[4]
        inside = path.is_relative_to(mount_point)
        if inside and len(mount_point) >= len(best):
            best, kind = mount_point, after.split()[0]
    return kind


def prepare(disk: Path, rack: Path, number: int, spec: RackSpec, server: ServerSpec) -> None:
    """Fill a new server's disk."""
    for part in ("upper", "work", "root", "home"):
        (disk / part).mkdir(parents=True, mode=0o755)
    upper = disk / "upper"
    _write_accounts(upper, number, spec, server)
    _write_names(upper, number, spec, server)
    _write_sshd(upper, rack, server)
    _write_power_commands(upper, server)
    _open_the_way_to(CHECKOUT, upper)
    _open_the_way_to(Path(sys.base_prefix), upper)
    for user in server.users:
        _make_home(disk / "home" / user, rack, number, spec, server, user)
    if server.root_login:
        _put(upper / "root/.ssh/authorized_keys", identities.authorized_keys(rack, spec, server, "root"), 0o600)
        (upper / "root/.ssh").chmod(0o700)
    if server.role != "node":
        for command in ("racksack", "submit", "fetch-results"):
            link = upper / "usr/local/bin" / command
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(CHECKOUT / ".venv/bin" / command)


def outside_binds(server: ServerSpec) -> list[tuple[str, bool]]:
    """Directories (path, writable) that the overlay alone would not show: on other file systems or under /tmp etc."""
    binds = [(path, True) for path in server.binds]
    for path in (CHECKOUT, Path(sys.base_prefix)):
        hidden = any(path.is_relative_to(empty) for empty in _EMPTY_AT_BOOT)
        if hidden or path.stat().st_dev != Path("/").stat().st_dev:
            binds.append((str(path), False))
    return binds


def _put(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def _write_accounts(upper: Path, number: int, spec: RackSpec, server: ServerSpec) -> None:
    """Add the server's accounts to what the machine has; a password of `*` allows keys and nothing else."""
    passwd, shadow, group = (
        _lines_without(Path("/etc") / name, server.users) for name in ("passwd", "shadow", "group")
    )
    for user in server.users:
        uid = layout.uid(number, spec, server.name, user)
        passwd.append(f"{user}:x:{uid}:{uid}:{user}:/home/{user}:/bin/bash")
        shadow.append(f"{user}:*:20000:0:99999:7:::")
        # On a shared controller the spool belongs to a group that all its users are in.
        members = ",".join(server.users) if user == "racksack" else ""
        group.append(f"{user}:x:{uid}:{members}")
    _put(upper / "etc/passwd", "\n".join(passwd) + "\n")
    _put(upper / "etc/shadow", "\n".join(shadow) + "\n", 0o600)
    _put(upper / "etc/group", "\n".join(group) + "\n")


def _lines_without(path: Path, names: tuple[str, ...]) -> list[str]:
    return [line for line in path.read_text().splitlines() if line.partition(":")[0] not in names]


def _write_names(upper: Path, number: int, spec: RackSpec, server: ServerSpec) -> None:
    hosts = ["127.0.0.1 localhost", f"127.0.1.1 {server.name}"]
    for other in spec.servers:
        subnet = layout.shared_subnet(spec, server.name, other.name)
        if other.name != server.name and subnet:
            hosts.append(f"{layout.address(number, spec, other.name, subnet)} {other.name}")
    _put(upper / "etc/hosts", "\n".join(hosts) + "\n")
    _put(upper / "etc/hostname", server.name + "\n")


def _write_sshd(upper: Path, rack: Path, server: ServerSpec) -> None:
    key = identities.host_key(rack, server.name)
    _put(upper / "etc/ssh/rack_host_key", key.read_text(), 0o600)
    _put(upper / "etc/ssh/rack_host_key.pub", identities.public(key) + "\n")
    _put(upper / "etc/ssh/sshd_config", _SSHD_CONFIG.format(root="prohibit-password" if server.root_login else "no"))


def _write_power_commands(upper: Path, server: ServerSpec) -> None:
    _put(upper / "usr/sbin/poweroff", _POWER_OFF, 0o755)
    _put(upper / "usr/sbin/halt", _POWER_OFF, 0o755)
    _put(upper / "usr/sbin/shutdown", _SHUTDOWN, 0o755)
    _put(upper / "usr/bin/systemctl", _SYSTEMCTL, 0o755)
    _put(upper / "etc/sudoers.d/rack", _SUDOERS.format(users=", ".join(server.users)), 0o440)


def _open_the_way_to(path: Path, upper: Path) -> None:
    """Let plain users of the server pass through directories that are closed on the machine, such as /root."""
    for directory in reversed(path.parents):
        mode = stat.S_IMODE(directory.stat().st_mode)
        if mode & stat.S_IXOTH:
            continue
        opened = upper / directory.relative_to("/")
        opened.mkdir(parents=True, exist_ok=True)
        opened.chmod(mode | stat.S_IXGRP | stat.S_IXOTH)


def _make_home(home: Path, rack: Path, number: int, spec: RackSpec, server: ServerSpec, user: str) -> None:
    files = {"authorized_keys": identities.authorized_keys(rack, spec, server, user)}
    if server.role != "node":
        files["id_ed25519"] = identities.client_key(rack, server.name, user).read_text()
        files["known_hosts"] = identities.known_hosts(rack, number, spec)
        files["config"] = identities.ssh_config(number, spec, server.name, user)
    for name, text in files.items():
        _put(home / ".ssh" / name, text, 0o600)
    uid = layout.uid(number, spec, server.name, user)
    (home / ".ssh").chmod(0o700)
    for path in (home, home / ".ssh", *(home / ".ssh").iterdir()):
        os.chown(path, uid, uid)
