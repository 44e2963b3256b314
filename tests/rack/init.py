"""PID 1 of a test server: takes its new namespaces, turns them into a machine, and is that machine's init.

Started by `server.py` through unshare with the path of a JSON file (`Boot`). It builds the root from an overlay,
mounts what a boot makes anew, plugs itself into the rack's bridges, starts sshd, reaps orphans, and on SIGUSR2 goes
down as systemd does: SIGTERM and SIGHUP together, then SIGKILL. When it dies the kernel ends everything on the server
at once, which is what a power cut is. Standard library only: it runs on the system's own Python with -I -S.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MNT_DETACH = 2
CLONE_NEWCGROUP = 0x02000000
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "ppc64le": 203, "s390x": 217}

_DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
_SSHD_STARTS_WITHIN_S = 30.0
_ANSWERED_WITHIN_S = 0.1
_SIGNALS = {signal.SIGCHLD, signal.SIGUSR2}

libc = ctypes.CDLL(None, use_errno=True)


@dataclasses.dataclass(frozen=True)
class Boot:
    """All that a server is told when it is switched on."""

    name: str
    disk: str
    rack: str
    """The rack's directory, for the record of power events."""
    bridge_namespace: str
    legs: list[dict[str, str]]
    """Per leg: `port` and `bridge` in the bridge namespace, `interface`, `address`, `mac` here; `plugged` yes or no."""
    binds: list[tuple[str, bool]]
    cgroup: str
    """Name of the cgroup to live in, empty for none."""
    boot_delay_s: float
    stop_timeout_s: float
    sshd: bool


def main() -> None:
    """Boot, stay until told to go down, go down."""
    boot = Boot(**json.loads(Path(sys.argv[1]).read_text()))
    # The machine's /proc is still mounted here, and it knows this process by the machine's numbers.
    host_pid = str(Path("/proc/self").readlink())
    if boot.cgroup:
        enter_cgroup(boot.cgroup)
    print(host_pid, flush=True)
    # Without the answer nobody has recorded this server, and nobody could end it.
    if not sys.stdin.readline():
        sys.exit("whoever switched this server on has died")
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    socket.sethostname(boot.name)
    record = os.open(f"{boot.rack}/events.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    time.sleep(boot.boot_delay_s)
    plug_in(boot)
    build_root(boot)
    if boot.sshd:
        start_sshd()
        append_event(record, boot.name, "up")
    # Looked at only now: a machine that is still booting does not listen to its power-off command.
    while signal.sigwait(_SIGNALS) != signal.SIGUSR2:
        reap()
    append_event(record, boot.name, "stopping")
    Path("/run/stopping").touch()
    # Whoever asked is answered before the end begins, as systemctl's request is.
    time.sleep(_ANSWERED_WITHIN_S)
    go_down(boot.stop_timeout_s)
    append_event(record, boot.name, "off", "from inside")


def append_event(record: int, server: str, event: str, detail: str = "") -> None:
    """Add to the rack's record of power events, in the form of `state.PowerEvent`."""
    line = json.dumps({"time_s": time.time(), "server": server, "event": event, "detail": detail}) + "\n"
    os.write(record, line.encode())


def mount(source: str, target: str | Path, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2), with an error that names what was to be mounted where."""
    result = libc.mount(source.encode(), str(target).encode(), kind.encode() or None, flags, data.encode() or None)
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot mount {kind or 'bind'} {source} on {target}: {os.strerror(number)}")


def plug_in(boot: Boot) -> None:
    """Make this server's network interfaces, their other ends being ports of the rack's bridges."""
    outside, inside = [], ["link set lo up"]
    for leg in boot.legs:
        # A port of an earlier boot may linger while its last connections are forgotten.
        outside.append(f"link del {leg['port']}")
        outside.append(
            f"link add {leg['port']} type veth peer name {leg['interface']} address {leg['mac']} netns {os.getpid()}"
        )
        if leg["plugged"] == "yes":
            outside.append(f"link set {leg['port']} master {leg['bridge']}")
        outside.append(f"link set {leg['port']} up")
        inside.append(f"addr add {leg['address']}/24 dev {leg['interface']}")
        inside.append(f"link set {leg['interface']} up")
    run_ip(["ip", "-n", boot.bridge_namespace, "-force", "-batch", "-"], outside, check=False)
    run_ip(["ip", "-batch", "-"], inside, check=True)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("0")
    # A machine without power does not resend: what a dead connection still has to say is soon forgotten.
    Path("/proc/sys/net/ipv4/tcp_orphan_retries").write_text("1")


def run_ip(command: list[str], lines: list[str], check: bool) -> None:
    """Give ip(8) a batch of lines."""
    done = subprocess.run(command, input="\n".join(lines) + "\n", text=True, capture_output=True, check=False)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


def build_root(boot: Boot) -> None:
    """Mount the server's file systems and make them its root."""
    disk = Path(boot.disk)
    root = disk / "root"
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    mount("overlay", root, "overlay", data=f"lowerdir=/,upperdir={disk}/upper,workdir={disk}/work")
    mount("proc", root / "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("sysfs", root / "sys", "sysfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("tmpfs", root / "tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    mount("tmpfs", root / "run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    mount(str(disk / "home"), root / "home", flags=MS_BIND)
    build_dev(root / "dev")
    fill_run(root / "run")
    mount(str(root / "run/boot_id"), root / "proc/sys/kernel/random/boot_id", flags=MS_BIND)
    for path, writable in boot.binds:
        bind(path, root / path.lstrip("/"), writable)
    if boot.cgroup:
        mount_cgroups(root / "sys/fs/cgroup")
    enter(root)


def build_dev(dev: Path) -> None:
    """A /dev with terminals of its own and an empty /dev/shm."""
    mount("tmpfs", dev, "tmpfs", MS_NOSUID, "mode=755,size=64k")
    for name, (major, minor) in _DEVICES.items():
        os.mknod(dev / name, 0o020666, os.makedev(major, minor))
        (dev / name).chmod(0o666)
    for name, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        (dev / name).symlink_to(target)
    (dev / "pts").mkdir()
    mount("devpts", dev / "pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5")
    (dev / "ptmx").symlink_to("pts/ptmx")
    (dev / "shm").mkdir()
    mount("tmpfs", dev / "shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")


def fill_run(run: Path) -> None:
    """What a boot puts into /run: sshd's directory, the list of logins, the runtime directories, a new boot id."""
    for name, mode in (("sshd", 0o755), ("lock", 0o1777), ("user", 0o755), ("screen", 0o1777)):
        (run / name).mkdir()
        (run / name).chmod(mode)
    (run / "utmp").touch(0o664)
    (run / "boot_id").write_text(f"{uuid.uuid4()}\n")


def bind(path: str, target: Path, writable: bool) -> None:
    """Show a directory of the machine at the same place on the server."""
    target.mkdir(parents=True, exist_ok=True)
    mount(path, target, flags=MS_BIND | MS_REC)
    if not writable:
        mount("none", target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY)


def enter(root: Path) -> None:
    """Make `root` this process's root and let go of the machine's (pivot_root(2), "pivot_root(".", ".")")."""
    os.chdir(root)
    if libc.syscall(PIVOT_ROOT[os.uname().machine], b".", b".") != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot pivot into {root}: {os.strerror(number)}")
    if libc.umount2(b".", MNT_DETACH) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot let go of the machine's root: {os.strerror(number)}")
    os.chdir("/")


def cgroup_hierarchies() -> list[tuple[str, Path]]:
    """The machine's cgroup v1 hierarchies: (mount data, mount point)."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split()[:3]
        if kind == "cgroup":
            names = [part for part in options.split(",") if part not in ("rw", "ro", "xattr")]
            found.append((",".join(names), Path(before.split()[4])))
    return found


def enter_cgroup(name: str) -> None:
    """Move into a cgroup of this server's own in every v1 hierarchy, and make it the root that the server sees."""
    for _, mounted in cgroup_hierarchies():
        group = mounted / name
        group.mkdir(parents=True, exist_ok=True)
        # A cpuset is empty until told otherwise, and nothing can run in an empty one.
        for parent in (group.parent, group):
            for setting in ("cpuset.cpus", "cpuset.mems"):
                if (parent / setting).exists():
                    (parent / setting).write_text((parent.parent / setting).read_text())
        (group / "cgroup.procs").write_text("0")
    if libc.unshare(CLONE_NEWCGROUP) != 0:
        raise OSError(ctypes.get_errno(), "cannot make a cgroup namespace")


def mount_cgroups(target: Path) -> None:
    """Mount the server's own part of every v1 hierarchy."""
    hierarchies = cgroup_hierarchies()
    mount("tmpfs", target, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755")
    for data, mounted in hierarchies:
        (target / mounted.name).mkdir()
        mount("cgroup", target / mounted.name, "cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC, data)


def start_sshd() -> None:
    """Start sshd and return when it listens."""
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
    os.posix_spawn("/usr/sbin/sshd", ["/usr/sbin/sshd", "-D", "-e"], environment, setsigmask=[])
    deadline = time.monotonic() + _SSHD_STARTS_WITHIN_S
    while not listens_on(22):
        if signal.sigtimedwait({signal.SIGCHLD}, 0.005) is not None:
            reap()
        if time.monotonic() > deadline:
            raise TimeoutError(f"sshd does not listen {_SSHD_STARTS_WITHIN_S} s after its start; see console.log")


def listens_on(port: int) -> bool:
    """Whether a TCP socket of this server listens on a port."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and int(fields[1].partition(":")[2], 16) == port:
            return True
    return False


def reap() -> None:
    """Take leave of every process that has ended, orphans included."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                return
        except ChildProcessError:
            return


def go_down(stop_timeout_s: float) -> None:
    """End all processes: SIGTERM and SIGHUP together, as systemd does to a login session, SIGKILL after the time."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCONT):
        tell_all(number)
    deadline = time.monotonic() + stop_timeout_s
    while others() and time.monotonic() < deadline:
        signal.sigtimedwait({signal.SIGCHLD}, 0.02)
        reap()
    tell_all(signal.SIGKILL)


def tell_all(number: int) -> None:
    """Send a signal to every process of the server but this one; there may be none."""
    try:
        os.kill(-1, number)
    except ProcessLookupError:
        return


def others() -> bool:
    """Whether any process but this one still runs."""
    return any(name.isdigit() and name != "1" for name in os.listdir("/proc"))  # noqa: PTH208 -- names are enough


if __name__ == "__main__":
    main()
