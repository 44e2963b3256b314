"""The test rack itself: its servers boot, die, come back, are reached as real ones are, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.rack import Rack, ServerSpec, network, remove_dead, state
from tests.rack.fixtures import BuildRack
from tests.rack.server import Server

pytestmark = pytest.mark.rack
RACK_PY = Path(__file__).with_name("rack.py")
SSH = ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5"]


def wait_for(condition: Callable[[], object], timeout_s: float = 20.0) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.02)


def ssh(origin: Server, target: str, command: str, check: bool = True) -> str:
    """The output of a command on another server, through ssh."""
    return origin.exec([*SSH, target, command], check=check).stdout.strip()


def wake(rack: Rack, target: Server) -> None:
    """Send one magic packet from the controller to the target's subnet."""
    script = "import sys, wakeonlan; wakeonlan.send_magic_packet(sys.argv[1], ip_address=sys.argv[2])"
    rack["controller"].exec([sys.executable, "-c", script, target.mac, target.broadcast])


def count(rack: Rack, server: str, event: str) -> int:
    """How often something has happened to a server's power."""
    return [one.event for one in rack.events(server)].count(event)


@pytest.fixture
def pair(build_rack: BuildRack) -> Rack:
    """A controller and one node, both on, for tests that break things."""
    rack = build_rack(
        ServerSpec("controller", role="controller", subnets=("a", "management")), ServerSpec("r1", bmc=True)
    )
    rack.up()
    return rack


def test_ssh_goes_from_laptop_to_controller_to_nodes_and_through_a_jump(rack: Rack) -> None:
    assert ssh(rack["laptop"], "controller", "hostname; id -un") == "controller\nresearcher"
    assert ssh(rack["controller"], "r1", "hostname; id -un") == "r1\nracksack"
    assert ssh(rack["controller"], "r2", "hostname") == "r2"
    assert ssh(rack["laptop"], "r2", "hostname") == "r2"


def test_the_far_subnet_is_reached_through_the_jump_host_only(rack: Rack) -> None:
    direct = rack["controller"].exec([*SSH, "-o", "ProxyJump=none", "r2", "true"], check=False)
    assert direct.returncode == 255
    assert "Network is unreachable" in direct.stderr


def test_every_server_has_its_own_host_key_name_boot_and_processes(rack: Rack) -> None:
    servers = list(rack.servers.values())
    assert len({server.host_key for server in servers}) == len(servers)
    assert len({server.exec(["cat", "/proc/sys/kernel/random/boot_id"]).stdout for server in servers}) == len(servers)
    assert [server.exec(["hostname"]).stdout.strip() for server in servers] == list(rack.servers)
    for server in servers:
        assert float(server.exec(["cat", "/proc/uptime"]).stdout.split()[0]) < 300
        assert "rack/init.py" in server.exec(["cat", "/proc/1/cmdline"]).stdout
    machine_only = f"[ -e /proc/{os.getpid()}/cmdline ] && tr '\\0' ' ' </proc/{os.getpid()}/cmdline; true"
    assert "pytest" not in servers[0].exec(["sh", "-c", machine_only]).stdout


def test_a_changed_host_key_is_refused(rack: Rack) -> None:
    controller = rack["controller"]
    other_key = f"r1,{rack['r1'].address} {rack['r3'].host_key}\n"
    controller.exec(["sh", "-c", "cat > /tmp/known"], stdin=other_key)
    refused = controller.exec([*SSH, "-o", "UserKnownHostsFile=/tmp/known", "r1", "true"], check=False)
    assert refused.returncode == 255
    assert "Host key verification failed" in refused.stderr


def test_the_checkout_and_its_programs_are_there(rack: Rack) -> None:
    version = "import sys, racksack_jobspecs; print(racksack_jobspecs.__name__)"
    python = str(Path(sys.prefix) / "bin/python")
    assert rack["laptop"].exec([python, "-c", version]).stdout.strip() == "racksack_jobspecs"
    assert rack["r1"].exec([python, "-c", version]).stdout.strip() == "racksack_jobspecs"
    for program in ("rsync", "tmux"):
        assert rack["r1"].exec(["which", program]).stdout


def test_signals_reach_a_command_on_a_server(rack: Rack) -> None:
    script = "trap 'echo terminated; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    patient = rack["r1"].popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True)
    assert patient.stdout
    assert patient.stdout.readline() == "ready\n"
    patient.terminate()
    assert patient.communicate(timeout=20)[0] == "terminated\n"
    assert patient.returncode == 3
    killed = rack["r1"].popen(["sleep", "54321"])
    wait_for(lambda: "54321" in rack["r1"].exec(["ps", "ax"]).stdout)
    killed.kill()
    assert killed.wait(timeout=20) != 0
    assert "54321" not in rack["r1"].exec(["ps", "ax"]).stdout


def test_what_a_server_writes_stays_on_it(rack: Rack) -> None:
    rack["r1"].exec(["sh", "-c", "echo mine > /etc/rack-was-here"], user="root")
    rack["r1"].exec(["sh", "-c", "echo mine > ~/note; touch /tmp/rack-was-here"])
    assert not Path("/etc/rack-was-here").exists()
    assert not Path("/tmp/rack-was-here").exists()
    assert rack["r3"].exec(["ls", "/etc/rack-was-here"], check=False).returncode != 0
    assert (rack["r1"].home() / "note").read_text() == "mine\n"


def test_rsync_and_tmux_work_over_ssh(rack: Rack) -> None:
    controller = rack["controller"]
    controller.exec(["sh", "-c", "mkdir -p project && echo data > project/file"])
    controller.exec(["rsync", "-a", "-e", " ".join(SSH), "project", "r2:"])
    assert (rack["r2"].home() / "project/file").read_text() == "data\n"
    ssh(controller, "r2", "tmux -L job new-session -d 'sleep 1000'")
    assert ssh(controller, "r2", "tmux -L job list-sessions | wc -l") == "1"
    ssh(controller, "r2", "tmux -L job kill-server")


def test_a_power_cut_ends_everything_at_once_and_the_home_stays(pair: Rack) -> None:
    server = pair["r1"]
    server.exec(
        [
            "sh",
            "-c",
            "trap '' TERM HUP; (setsid sleep 98765 >/dev/null 2>&1 &) & echo kept > ~/kept; echo gone > /dev/shm/gone",
        ]
    )
    boot_id = server.exec(["cat", "/proc/sys/kernel/random/boot_id"]).stdout
    held = pair["controller"].popen([*SSH, "-o", "ServerAliveInterval=30", "r1", "sleep 1000"])
    wait_for(lambda: "sleep 1000" in server.exec(["ps", "ax"]).stdout)
    processes = server.processes()
    assert len(processes) > 3
    assert server.power_cut()
    assert not server.running
    assert not any(process.alive() for process in processes)
    # Nobody has told the other end: a connection into a dead machine stays as it was.
    with pytest.raises(subprocess.TimeoutExpired):
        held.wait(timeout=0.5)
    held.kill()
    held.wait()
    pair.up("r1")
    assert server.exec(["cat", "/proc/sys/kernel/random/boot_id"]).stdout != boot_id
    assert server.exec(["cat", "kept"]).stdout == "kept\n"
    assert server.exec(["ls", "/dev/shm"]).stdout == ""
    assert "98765" not in server.exec(["ps", "ax"]).stdout
    assert float(server.exec(["cat", "/proc/uptime"]).stdout.split()[0]) < 60


@pytest.mark.parametrize("command", ["poweroff", "systemctl poweroff", "shutdown -h now"])
def test_power_off_from_inside(pair: Rack, command: str) -> None:
    server = pair["r1"]
    ssh(pair["controller"], "r1", f"sudo -n {command}", check=False)
    server.wait_off()
    assert not server.running
    assert [event.event for event in pair.events("r1")] == ["power-on", "up", "stopping", "off"]
    pair.up("r1")
    assert ssh(pair["controller"], "r1", "hostname") == "r1"


def test_only_root_may_power_off(pair: Rack) -> None:
    assert pair["r1"].exec(["/usr/sbin/poweroff"], check=False).returncode == 1
    assert pair["r1"].exec(["/usr/bin/systemctl", "restart", "ssh"], check=False).returncode == 1
    assert pair["r1"].exec(["/usr/bin/systemctl", "is-system-running"]).stdout == "running\n"
    assert pair["r1"].running


def test_going_down_tells_processes_as_systemd_does(pair: Rack) -> None:
    server = pair["r1"]
    script = (
        "import os, pathlib, signal\n"
        "home = pathlib.Path.home()\n"
        "def tell(number, frame):\n"
        "    with (home / 'told').open('a') as file:\n"
        "        file.write(signal.Signals(number).name[3:] + '\\n')\n"
        "    if number == signal.SIGHUP:\n"
        "        os._exit(0)\n"
        "signal.signal(signal.SIGTERM, tell)\n"
        "signal.signal(signal.SIGHUP, tell)\n"
        "(home / 'ready').touch()\n"
        "while True:\n"
        "    signal.pause()\n"
    )
    server.popen(["/usr/bin/python3", "-c", script])
    wait_for((server.home() / "ready").exists)
    assert server.press_power_button()
    server.wait_off()
    told = (server.home() / "told").read_text().split()
    assert "HUP" in told
    assert set(told) <= {"TERM", "HUP"}


def test_a_process_that_ignores_signals_does_not_keep_a_server_on(build_rack: BuildRack) -> None:
    rack = build_rack(ServerSpec("r1", stop_timeout_s=0.3))
    rack.up()
    server = rack["r1"]
    server.popen(["sh", "-c", "trap '' TERM HUP; echo ready > ~/ready; while :; do sleep 0.1; done"])
    wait_for((server.home() / "ready").exists)
    assert server.press_power_button()
    server.wait_off()
    assert not server.running


def test_a_partition_is_silent_and_heals(pair: Rack) -> None:
    server, controller = pair["r1"], pair["controller"]
    session = controller.popen([*SSH, "r1", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert session.stdin
    assert session.stdout
    session.stdin.write("before\n")
    session.stdin.flush()
    assert session.stdout.readline() == "before\n"
    server.partition()
    assert "state UP" in server.exec(["ip", "link", "show", "eth0"]).stdout
    assert controller.exec([*SSH, "-o", "ConnectTimeout=1", "r1", "true"], check=False).returncode == 255
    session.stdin.write("across\n")
    session.stdin.flush()
    server.heal()
    # The same connection goes on: nothing had told either end that there was anything wrong.
    assert session.stdout.readline() == "across\n"
    session.stdin.close()
    assert session.wait(timeout=20) == 0
    session.stdout.close()


def test_a_partition_outlives_a_power_cycle(pair: Rack) -> None:
    server, controller = pair["r1"], pair["controller"]
    server.partition()
    server.power_cut()
    pair.up("r1")
    assert controller.exec([*SSH, "-o", "ConnectTimeout=1", "r1", "true"], check=False).returncode == 255
    server.heal()
    assert ssh(controller, "r1", "hostname") == "r1"


def test_a_pulled_cable_is_seen_and_one_way_loss_is_not(pair: Rack) -> None:
    server, controller = pair["r1"], pair["controller"]
    server.cable(plugged=False)
    assert "NO-CARRIER" in server.exec(["ip", "link", "show", "eth0"]).stdout
    server.cable(plugged=True)
    assert ssh(controller, "r1", "hostname") == "r1"
    server.drop_incoming(dropping=True)
    assert controller.exec([*SSH, "-o", "ConnectTimeout=1", "r1", "true"], check=False).returncode == 255
    assert "NO-CARRIER" not in server.exec(["ip", "link", "show", "eth0"]).stdout
    server.drop_incoming(dropping=False)
    assert ssh(controller, "r1", "hostname") == "r1"


def test_a_magic_packet_wakes_the_right_server_and_lost_ones_do_not(build_rack: BuildRack) -> None:
    controller = ServerSpec("controller", role="controller", subnets=("a", "b", "management"))
    rack = build_rack(controller, ServerSpec("r1", bmc=True), ServerSpec("r2", subnets=("b",), bmc=True))
    rack.up("controller")
    rack["r1"].set_faults(magic_packets_ignored=2)
    for dropped in (1, 2):
        wake(rack, rack["r1"])
        wait_for(lambda: count(rack, "r1", "magic-dropped") == dropped)  # noqa: B023 -- called in this round only
        assert not rack["r1"].running
    wake(rack, rack["r1"])
    wait_for(lambda: rack["r1"].running)
    rack["r1"].wait_up()
    assert not rack["r2"].running
    wait_for(lambda: [e.event for e in rack.events("r1")][-3:] == ["magic-packet", "power-on", "up"])
    rack["r2"].partition_bmc()
    wake(rack, rack["r2"])
    rack["r2"].heal()
    wake(rack, rack["r2"])
    wait_for(lambda: rack["r2"].running)
    assert count(rack, "r2", "magic-packet") == 1


def test_an_outlet_switches_its_server_for_the_controller(pair: Rack) -> None:
    server, controller = pair["r1"], pair["controller"]
    outlet = pair.start_outlet("r1")
    assert controller.exec([*outlet, "status"]).stdout == "on\n"
    assert controller.exec([*outlet, "off"]).stdout == "off\n"
    assert not server.running
    assert controller.exec([*outlet, "status"]).stdout == "off\n"
    assert controller.exec([*outlet, "on"]).stdout == "on\n"
    server.wait_up()
    server.partition_bmc()
    refused = controller.exec([*outlet, "off"], check=False, timeout_s=30)
    assert refused.returncode == 1
    assert "does not answer" in refused.stderr
    assert server.running


def test_a_login_with_a_terminal_is_listed_and_others_are_not(pair: Rack) -> None:
    server, controller = pair["r1"], pair["controller"]
    assert server.exec(["who"]).stdout == ""
    session = controller.popen([*SSH, "-tt", "r1", "cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    wait_for(lambda: server.exec(["who"]).stdout)
    assert ssh(controller, "r1", "who").split()[0] == "racksack"
    session.kill()
    session.communicate()
    wait_for(lambda: not server.exec(["who"]).stdout)


def test_boots_can_be_slow_or_fail(build_rack: BuildRack) -> None:
    rack = build_rack(ServerSpec("r1", boot_delay_s=0.8))
    server = rack["r1"]
    started = time.monotonic()
    rack.up()
    assert time.monotonic() - started >= 0.8
    server.power_cut()
    server.set_faults(no_ssh=True, boot_delay_s=0.0)
    assert server.power_on()
    with pytest.raises(TimeoutError, match="no sshd"):
        server.wait_up(timeout_s=0.5)
    server.power_cut()
    server.set_faults(dead=True)
    assert not server.power_on()
    with pytest.raises(RuntimeError, match="r1 is off"):
        server.exec(["true"])


def test_two_racks_at_once_do_not_meet(build_rack: BuildRack) -> None:
    servers = (ServerSpec("controller", role="controller"), ServerSpec("r1"))
    first, second = build_rack(*servers), build_rack(*servers)
    first.up()
    second.up()
    assert first["r1"].address != second["r1"].address
    for rack in (first, second):
        rack["r1"].exec(["sh", "-c", f"echo {rack.number} > ~/number"])
        assert ssh(rack["controller"], "r1", "cat number") == str(rack.number)
    foreign = first["controller"].exec([*SSH, "-o", "ConnectTimeout=1", second["r1"].address, "true"], check=False)
    assert foreign.returncode == 255
    first.remove()
    # Once more, when its number may already be another's: as `second`'s is here, for a rack of that number before it.
    first.remove()
    Rack(second.number, first.identity, second.spec, second.disks).remove()
    assert ssh(second["controller"], "r1", "cat number") == str(second.number)


def test_a_servers_own_page_is_reached_from_the_machine(pair: Rack) -> None:
    script = "import socket; c, _ = socket.create_server(('127.0.0.1', 8470)).accept(); c.sendall(b'hello'); c.close()"
    served = pair["controller"].popen(["/usr/bin/python3", "-c", script])
    port = pair.forward("controller", 8470)

    def greeted() -> bool:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            return connection.recv(16) == b"hello"

    wait_for(greeted)
    assert served.wait(timeout=10) == 0


def test_cgroups_of_its_own_enforce_memory_and_do_not_stay(build_rack: BuildRack) -> None:
    if not Path("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists():
        pytest.skip("this machine has no cgroup v1 memory controller")
    rack = build_rack(ServerSpec("r1", cgroups=True))
    rack.up()
    group = "/sys/fs/cgroup/memory/job"
    hungry = f"mkdir {group} && echo 20M > {group}/memory.limit_in_bytes && echo $$ > {group}/tasks && "
    hungry += "exec /usr/bin/python3 -c 'x = bytearray(60 << 20)'"
    killed = rack["r1"].exec(["sh", "-c", hungry], user="root", check=False)
    assert killed.returncode == -signal.SIGKILL or killed.returncode == 128 + signal.SIGKILL
    leftover = list(Path("/sys/fs/cgroup/memory").glob(f"racksack-rack-{rack.number}/**/job"))
    assert leftover
    rack.remove()
    assert not list(Path("/sys/fs/cgroup").glob(f"*/racksack-rack-{rack.number}"))


def left_behind(number: int) -> dict[str, list[str]]:
    """Whatever on the machine still bears the number of a rack."""
    interfaces = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout.splitlines()
    commands = []
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes().decode(errors="replace") if entry.name.isdigit() else ""
        except (FileNotFoundError, ProcessLookupError):
            continue
        if f"racksack-rack/{number}/" in command or f"netns/racksack-{number}-" in command:
            commands.append(command)
    return {
        "namespaces": network.namespaces(number),
        "interfaces": [line for line in interfaces if "br-a" in line or "r1-a" in line],
        "mounts": [line for line in mounts() if f"racksack-rack-{number}/" in line or f"racksack-{number}-" in line],
        "processes": commands,
        "directories": [str(state.STATE_ROOT / str(number))] if (state.STATE_ROOT / str(number)).exists() else [],
    }


def mounts() -> list[str]:
    """The machine's mounts."""
    return Path("/proc/self/mountinfo").read_text().splitlines()


def test_removing_a_rack_leaves_nothing(build_rack: BuildRack) -> None:
    before = set(mounts())
    rack = build_rack()
    rack.up()
    helper = rack.run_in_bmc("r1", ["sh", "-c", "setsid sleep 4321 & sleep 1234"])
    assert left_behind(rack.number)["namespaces"]
    assert left_behind(rack.number)["processes"]
    processes = [process for server in rack.servers.values() for process in server.processes()]
    wait_for(lambda: len(network.pids_in(rack["r1"].bmc_namespace)) >= 3)
    bmc_processes = [state.ProcessId.of(pid) for pid in network.pids_in(rack["r1"].bmc_namespace)]
    helpers = [state.read_process(record) for record in (rack.directory / "processes").glob("*.json")]
    assert len(helpers) == 2, "the wake-on-LAN ears and the process on the BMC"
    rack.remove()
    assert not any(process.alive() for process in [*processes, *bmc_processes, *filter(None, helpers)])
    assert not any(left_behind(rack.number).values()), left_behind(rack.number)
    new = [line.split()[4] for line in set(mounts()) - before]
    # Only the mount of /run/netns itself, which ip(8) makes once, may stay; other tests have racks, and mount in /tmp.
    theirs = ("/run/netns/racksack-", "/dev/shm/racksack-rack-", "/tmp/")
    assert [place for place in new if place != "/run/netns" and not place.startswith(theirs)] == []
    assert not rack.disks.exists()
    helper.wait(timeout=5)
    rack.remove()


def test_a_rack_whose_owner_was_killed_is_cleared_away() -> None:
    script = (
        "import time; from tests.rack import Rack, ServerSpec, RackSpec; "
        "rack = Rack.build(RackSpec((ServerSpec('r1', bmc=True),))); rack.up(); "
        "print(rack.number, flush=True); time.sleep(600)"
    )
    root = Path(__file__).resolve().parents[2]
    owner = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=root)
    with owner:
        assert owner.stdout
        try:
            number = int(owner.stdout.readline())
            processes = Rack.load(number)["r1"].processes()
            assert len(processes) >= 2
            assert number not in remove_dead()
            place = Rack.load(number).disks / "left"
            place.mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
        finally:
            owner.kill()
    assert all(process.alive() for process in processes)
    assert number in remove_dead()
    assert not any(process.alive() for process in processes)
    assert not any(left_behind(number).values())


def test_the_command_line_builds_switches_and_removes(tmp_path: Path) -> None:
    def run(*arguments: str, rack: str = "") -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "RACKSACK_RACK": rack} if rack else dict(os.environ)
        return subprocess.run(
            [sys.executable, str(RACK_PY), *arguments],
            capture_output=True,
            text=True,
            env=env,
            cwd=tmp_path,
            check=False,
        )

    built = run("up", "--nodes", "1", "--off")
    assert built.returncode == 0, built.stderr
    number = built.stdout.strip()
    try:
        assert run("status", "r1", rack=number).stdout == "off\n"
        assert run("on", "r1", rack=number).returncode == 0
        assert run("status", "r1", rack=number).stdout == "on\n"
        assert run("on", "r1", rack=number).returncode == 0
        Rack.load(int(number))["r1"].wait_up()
        assert run("exec", "r1", "--", "hostname", rack=number).stdout == "r1\n"
        assert run("soft", "r1", rack=number).returncode == 0
        Rack.load(int(number))["r1"].wait_off()
        assert run("status", "r1", rack=number).stdout == "off\n"
        assert run("off", "r1", rack=number).returncode == 0
        unknown = run("on", "r9", rack=number)
        assert unknown.returncode == 1
        assert "no server 'r9'" in unknown.stderr
        assert f"{number:>3}  r1 " in run("status").stdout
    finally:
        assert run("down", number).returncode == 0
    assert not any(left_behind(int(number)).values())


def test_a_boot_does_not_take_long(pair: Rack) -> None:
    durations = []
    for _ in range(3):
        pair["r1"].power_cut()
        started = time.monotonic()
        pair.up("r1")
        durations.append(time.monotonic() - started)
    # A bound for a busy machine; a quiet one needs about 0.1 s.
    assert min(durations) < 10.0
