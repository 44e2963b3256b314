"""The way over ssh, with a real sshd, real rsync, the relay and shared connections."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.client.conftest import Cli, Ended
from tests.client.stand_in import StandIn, serve

from racksack.client import Client
from racksack.submission.upload import hand_in
from racksack.transport import ssh
from racksack.transport.target import Target

pytestmark = [
    pytest.mark.ssh,
    pytest.mark.skipif(shutil.which("sshd", path="/usr/sbin:/usr/bin") is None, reason="sshd is not installed"),
    pytest.mark.skipif(os.getuid() != 0, reason="a private sshd that logs this user in needs root here"),
]

SSHD = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
UsePAM no
"""
SSH = """
Host rack
    HostName 127.0.0.1
    Port {port}
    IdentityFile {folder}/user_key
    IdentitiesOnly yes
    UserKnownHostsFile {folder}/known_hosts
    StrictHostKeyChecking yes
Host behind
    HostName 127.0.0.1
    Port {port}
    IdentityFile {folder}/user_key
    IdentitiesOnly yes
    UserKnownHostsFile {folder}/known_hosts
    StrictHostKeyChecking yes
    ProxyJump rack
Host dead
    HostName 127.0.0.1
    Port 1
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A real sshd on loopback; yields a folder with an `ssh` first in its bin/ that reads our configuration.

    ssh looks for its configuration in the home of the password file, which no variable changes; hence the wrapper.
    """
    folder = tmp_path_factory.mktemp("sshd")
    port = free_port()
    for name in ("host_key", "user_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    key = (folder / "host_key.pub").read_text().rsplit(" ", 1)[0]
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {key}\n")
    (folder / "sshd_config").write_text(SSHD.format(port=port, folder=folder))
    (folder / "ssh_config").write_text(SSH.format(port=port, folder=folder))
    (folder / "bin").mkdir()
    (folder / "bin/ssh").write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {folder}/ssh_config "$@"\n')
    (folder / "bin/ssh").chmod(0o755)
    Path("/run/sshd").mkdir(exist_ok=True)
    program = shutil.which("sshd", path="/usr/sbin:/usr/bin")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([str(program), "-D", "-e", "-f", folder / "sshd_config"], stderr=log)
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.02)
        yield folder
    finally:
        process.terminate()
        process.wait(timeout=10)


@pytest.fixture
def remote(sshd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, private_home: Path) -> Iterator[StandIn]:
    """A stand-in that is reached as `rack:<spool>`, by a spool path with a space and a quote in it."""
    ssh.argv.cache_clear()
    monkeypatch.setenv("PATH", f"{sshd / 'bin'}:{os.environ['PATH']}")
    runtime = Path("/tmp") / f"rs-{os.getpid()}"
    runtime.mkdir(mode=0o700, exist_ok=True)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    state = StandIn(tmp_path / "it's a spool")
    server = serve(state)
    monkeypatch.setenv("RACKSACK_CONTROLLER", f"rack:{state.spool}")
    yield state
    server.shutdown()
    server.server_close()
    for path in (runtime / "racksack").glob("*"):
        subprocess.run(
            [*ssh.argv("rack"), "-o", f"ControlPath={path}", "-O", "exit", "rack"], capture_output=True, check=False
        )
    shutil.rmtree(runtime, ignore_errors=True)
    ssh.argv.cache_clear()


@contextlib.contextmanager
def rewritten(path: Path, text: str) -> Iterator[None]:
    """A file with another text for a while."""
    before = path.read_text()
    path.write_text(text)
    try:
        yield
    finally:
        path.write_text(before)


def with_another_key(sshd: Path) -> str:
    """What known_hosts says of a server that had another host key before."""
    other = (sshd / "user_key.pub").read_text().rsplit(" ", 1)[0]
    return (sshd / "known_hosts").read_text().rsplit(" ", 2)[0] + " " + other + "\n"


def test_submit_status_and_fetch_over_ssh(
    cli: Cli, remote: StandIn, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / os.fsdecode(b"odd \xff'\n")).write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    ended = cli("submit", project, "main.py", "--name", "far")
    assert ended.code == 0, ended.err
    assert "Submitted job 1 (far)" in ended.out
    assert "(3 sent)" in ended.out
    (snapshot,) = (remote.spool / "snapshots").iterdir()
    assert (snapshot / os.fsdecode(b"odd \xff'\n")).exists()
    assert "far" in cli("racksack", "status").out
    remote.finish(1, files={os.fsdecode(b"result \xff'\n"): b"r"})
    fetched = cli("fetch-results")
    assert fetched.code == 0, fetched.err
    assert (tmp_path / "results/1-far" / os.fsdecode(b"result \xff'\n")).read_bytes() == b"r"
    assert remote.jobs[1]["fetched"]


def test_uploads_are_for_the_group_and_not_for_others(cli: Cli, remote: StandIn, project: Path) -> None:
    (project / "main.py").chmod(0o644)
    cli("submit", project, "main.py")
    (snapshot,) = (remote.spool / "snapshots").iterdir()
    for path in [snapshot, *snapshot.rglob("*")]:
        mode = stat.S_IMODE(path.lstat().st_mode)
        assert mode & 0o060 == 0o060, f"{path} {mode:o}"
        assert not mode & 0o007, f"{path} {mode:o}"


def test_one_connection_serves_the_next_commands(cli: Cli, remote: StandIn) -> None:
    cli("racksack", "status")
    sockets = list((Path(os.environ["XDG_RUNTIME_DIR"]) / "racksack").iterdir())
    assert len(sockets) == 1
    begun = time.perf_counter()
    assert cli("racksack", "status").code == 0
    print(f"status over a shared connection: {(time.perf_counter() - begun) * 1000:.0f} ms")


def test_a_users_own_sharing_is_left_alone(sshd: Path, remote: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    config = sshd / "ssh_config"
    before = config.read_text()
    config.write_text(
        before.replace("Host rack\n", "Host rack\n    ControlMaster auto\n    ControlPath /tmp/mine-%C\n")
    )
    ssh.argv.cache_clear()
    try:
        assert not [word for word in ssh.argv("rack") if "Control" in word]
        assert [word for word in ssh.argv("behind") if "ControlPath" in word]
    finally:
        config.write_text(before)


def test_through_a_jump_host(cli: Cli, remote: StandIn, monkeypatch: pytest.MonkeyPatch, project: Path) -> None:
    monkeypatch.setenv("RACKSACK_CONTROLLER", f"behind:{remote.spool}")
    assert cli("submit", project, "main.py").code == 0
    assert remote.jobs[1]["name"] == "main"


def test_an_unreachable_host_is_exit_four(cli: Cli, remote: StandIn, project: Path) -> None:
    ended = cli("submit", project, "main.py", "--controller", "dead")
    assert ended.code == 4
    *receipt, sentence = ended.err.splitlines()
    assert "Connection refused" in sentence
    assert "nothing was changed" in sentence
    assert [line for line in receipt if not line.startswith(("Project ", "  "))] == []


def test_a_changed_host_key_is_refused(cli: Cli, sshd: Path, remote: StandIn) -> None:
    with rewritten(sshd / "known_hosts", with_another_key(sshd)):
        ended = cli("racksack", "status")
    assert ended.code == 4
    assert "Host key verification failed" in ended.err


def test_a_spool_without_controller_on_the_other_side(cli: Cli, remote: StandIn, tmp_path: Path) -> None:
    ended = cli("racksack", "status", "--controller", f"rack:{tmp_path}/nowhere")
    assert ended.code == 4
    assert "no controller is running there" in ended.err


def findings(ended: Ended) -> dict[str, tuple[str, str]]:
    """Verdicts and sentences of the client's part of `racksack doctor`."""
    return {one["what"]: (one["verdict"], one["sentence"]) for one in ended.json if one["part"] == "client"}


def test_doctor_over_ssh(cli: Cli, remote: StandIn) -> None:
    ended = cli("racksack", "doctor", "--json")
    assert ended.code == 0, ended.out
    found = findings(ended)
    assert {verdict for verdict, _ in found.values()} == {"ok"}
    assert "ssh to rack took" in found["login"][1]
    assert list(found)[-4:] == ["login", "connection", "versions", "clock"]


def test_doctor_tells_a_failed_login_from_a_controller_that_is_not_there(
    cli: Cli, remote: StandIn, sshd: Path, tmp_path: Path
) -> None:
    with rewritten(sshd / "known_hosts", with_another_key(sshd)):
        ended = cli("racksack", "doctor", "--json")
    found = findings(ended)
    assert ended.code == 1
    assert found["login"][0] == "failed"
    assert "Host key verification failed" in found["login"][1]
    assert found["connection"] == ("not_looked_at", "the login failed")
    assert [one["verdict"] for one in ended.json if one["part"] != "client"] == ["not_looked_at"] * 3
    found = findings(cli("racksack", "doctor", "--controller", "dead", "--json"))
    assert "Connection refused" in found["login"][1]
    found = findings(cli("racksack", "doctor", "--controller", f"rack:{tmp_path}/nowhere", "--json"))
    assert found["login"][0] == "ok"
    assert found["connection"][0] == "failed"
    assert "no controller is running there" in found["connection"][1]


def test_doctor_names_what_the_login_lacks(cli: Cli, remote: StandIn, sshd: Path, tmp_path: Path) -> None:
    """What the login finds is what its PATH and its start files make of it."""
    (tmp_path / "bin").mkdir()
    for name in ("sh", "python3"):
        (tmp_path / "bin" / name).symlink_to(str(shutil.which(name)))
    # The last word is the command for the other side.
    ssh_to_a_bare_login = f"""#!/bin/bash
last="${{@: -1}}"
case "$last" in
    *racksack-doctor*) set -- "${{@:1:$#-1}}" "echo; echo Welcome to rack; PATH={tmp_path}/bin; $last" ;;
esac
exec /usr/bin/ssh -F {sshd}/ssh_config "$@"
"""
    with rewritten(sshd / "bin/ssh", ssh_to_a_bare_login):
        ended = cli("racksack", "doctor", "--json")
    found = findings(ended)
    assert ended.code == 1
    assert found["login"][0] == "ok"
    assert "rack has no rsync" in found["programs there"][1]
    assert "python3" not in found["programs there"][1]
    assert "'Welcome to rack'" in found["shell there"][1]
    assert found["shell there"][0] == "warning"
    assert found["connection"][0] == "ok", "what is not needed for asking is no reason not to ask"


@pytest.mark.parametrize(
    ("hanging", "module", "what", "words"),
    [
        ("racksack-doctor", "way", "login", "ssh did not end within 1 s"),
        ("racksack-relay", "examination", "connection", "silent for too long"),
    ],
)
def test_doctor_does_not_wait_for_ever(
    cli: Cli,
    remote: StandIn,
    sshd: Path,
    monkeypatch: pytest.MonkeyPatch,
    hanging: str,
    module: str,
    what: str,
    words: str,
) -> None:
    """A login that never gets as far as its command, once at each step that logs in."""
    monkeypatch.setattr(f"racksack.doctor.{module}.LOGIN_S", 1.0)
    hang = f'case "$*" in *{hanging}*) exec sleep 600; esac\nexec /usr/bin/ssh'
    wrapper = sshd / "bin/ssh"
    with rewritten(wrapper, wrapper.read_text().replace("exec /usr/bin/ssh", hang)):
        ended = cli("racksack", "doctor", "--json")
    found = findings(ended)
    assert ended.code == 1
    assert found[what][0] == "failed"
    assert words in found[what][1]
    assert [one["verdict"] for one in ended.json if one["part"] != "client"] == ["not_looked_at"] * 3


def test_logs_are_followed_over_ssh(cli: Cli, remote: StandIn) -> None:
    remote.add_job("x", "done")
    remote.logs[1, "stdout"] = os.urandom(1000).hex().encode() * 500 + b"\n"
    ended = cli("racksack", "logs", "-f", "1")
    assert ended.code == 0
    assert ended.out.encode() == remote.logs[1, "stdout"]


def test_a_job_file_cut_short_is_never_handed_in(remote: StandIn, sshd: Path) -> None:
    """When the connection breaks, `cat` sees the end of the file: the size tells that it is not the whole one."""
    target = Target(str(remote.spool), "rack")
    hand_in(target, "whole.yaml", "x" * 100)
    assert (remote.spool / "jobs/whole.yaml").read_text() == "x" * 100
    from racksack.submission import upload

    argv = ["sh", "-c", upload._REMOTE_SCRIPT, "sh", str(remote.spool / "jobs"), ".cut.tmp", "cut.yaml", "100"]
    with pytest.raises(Exception, match="on rack"):
        ssh.run("rack", argv, text=b"x" * 60)
    assert not (remote.spool / "jobs/cut.yaml").exists()


def test_a_talkative_shell_profile_does_no_harm(cli: Cli, remote: StandIn, sshd: Path) -> None:
    """Lines that a profile prints before the relay starts are skipped."""
    welcome = 'case "$*" in *python3*) echo "Welcome to rack!"; echo; esac\nexec /usr/bin/ssh'
    wrapper = sshd / "bin/ssh"
    with rewritten(wrapper, wrapper.read_text().replace("exec /usr/bin/ssh", welcome)):
        assert cli("racksack", "status").code == 0


def test_a_relay_that_dies_mid_answer_is_unreachable_not_a_hang(remote: StandIn) -> None:
    from racksack.client import Client
    from racksack.errors import UnreachableError

    number = remote.add_job("x", "running")
    with Client() as client:
        client.status()
        process = client._connection._ssh
        assert process is not None
        remote.may_answer.clear()
        dying = threading.Timer(0.5, process.kill)
        dying.start()
        with pytest.raises(UnreachableError, match="repeating it is safe"):
            client.act(number, "cancel")
        dying.join()
        remote.may_answer.set()
        assert client.job(number).id == number, "the next request opens another connection"


def test_web_prints_the_tunnel(cli: Cli, remote: StandIn) -> None:
    ended = cli("racksack", "web")
    address = re.fullmatch(r"http://localhost:(\d+)/\n", ended.out)
    assert address is not None, ended.out
    forward = shlex.split(ended.err.partition(": ")[2])
    assert forward == ["ssh", "-N", "-L", f"{address[1]}:{remote.spool}/controller.sock", "rack"], "it knows the owner"
    ended = cli("racksack", "web", "login")
    address = re.fullmatch(r"http://localhost:(\d+)/\?key=once\n", ended.out)
    assert address is not None, ended.out
    assert f"ssh -N -L {address[1]}:127.0.0.1:8470 rack\n" in ended.err
    assert cli("racksack", "web", "logout").out == "1 browser signed out\n"


def test_attach_goes_through_ssh(cli: Cli, remote: StandIn) -> None:
    remote.add_job("x", "running")
    way = cli("racksack", "attach", "1", "--json").json
    assert way["argv"][0] == "ssh"
    assert way["argv"][-3:] == ["--", "rack", shlex.join([str(remote.tmux), "attach-session", "-t", "=1"])]
    assert cli("racksack", "attach", "1").out.strip() == "attached to -t =1"


def test_one_changed_file_moves_little_over_ssh(cli: Cli, remote: StandIn, project: Path) -> None:
    (project / "big.bin").write_bytes(os.urandom(2_000_000))
    first = cli("submit", project, "main.py", "--json").json
    assert first["wire_bytes"] > 2_000_000
    (project / "main.py").write_text("print('changed')\n")
    second = cli("submit", project, "main.py", "--json").json
    assert second["sent_files"] == 1
    assert second["wire_bytes"] < 20_000
    third = cli("submit", project, "main.py", "--json").json
    assert (third["sent_files"], third["wire_bytes"]) == (0, 0)


@pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")
def test_the_real_controller_over_ssh(
    cli: Cli, remote: StandIn, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    monkeypatch.chdir(tmp_path)
    with Client(Target(str(home / "spool"), home=home)) as client:
        client.status()
        monkeypatch.setenv("RACKSACK_CONTROLLER", f"rack:{home}/spool")
        try:
            ended = cli("submit", project, "main.py", "--no-venv", "--follow", "--fetch", "out")
            assert ended.code == 0, ended.err
            assert "hello\n" in ended.out
            (folder,) = (tmp_path / "out").iterdir()
            assert (folder / "stdout.log").read_text() == "hello\n"
        finally:
            client.post("controller/stop")
