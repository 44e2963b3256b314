"""One controller for several users: what is mine stays readable to me and the controller only."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from racksack.client import Client

CONTROLLER, ALICE, BOB, GROUP = "daemon", "games", "mail", "users"  # accounts that every Debian has


def _all_exist() -> bool:
    try:
        return all(pwd.getpwnam(name) for name in (CONTROLLER, ALICE, BOB))
    except KeyError:
        return False


pytestmark = [
    pytest.mark.skipif(os.getuid() != 0, reason="needs root, to act as several users"),
    pytest.mark.skipif(not _all_exist(), reason="needs Debian's system accounts"),
    pytest.mark.skipif(shutil.which("setfacl") is None, reason="needs setfacl (package acl)"),
    pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux"),
]

CONFIG = """\
spool: {spool}
group: {group}
web: {{listen: "127.0.0.1:{port}"}}
nodes:
  here: {{local: {{shared: yes}}}}
"""


@dataclass(frozen=True)
class Shared:
    """A folder with the spool and a home for each user."""

    folder: Path

    @property
    def spool(self) -> Path:
        return self.folder / "spool"

    def run(self, user: str, *argv: str, code: int = 0, group: str = GROUP) -> str:
        """Run one of our commands as a user, in that user's home; returns stdout and stderr."""
        name, *rest = argv
        text = f"import sys; from racksack.main import {name} as run; sys.argv[0] = {name!r}; sys.exit(run())"
        command = [sys.executable, "-P", "-c", text, *rest]
        done = as_user(self.folder, user, command, group, RACKSACK_CONTROLLER=str(self.spool))
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def shell(self, user: str, script: str) -> subprocess.CompletedProcess[str]:
        return as_user(self.folder, user, ["sh", "-c", script])


def as_user(
    folder: Path, user: str, argv: list[str], group: str = GROUP, **more: str
) -> subprocess.CompletedProcess[str]:
    environment = {"HOME": str(folder / user), "PATH": os.environ["PATH"], **more}
    return subprocess.run(
        argv,
        user=user,
        group=group,
        extra_groups=[],
        cwd=folder / user,
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


@pytest.fixture(scope="module")
def shared() -> Iterator[Shared]:
    """A real controller of its own user, and two users in the group of its spool."""
    folder = Path(tempfile.mkdtemp(prefix="racksack-shared-"))
    folder.chmod(0o755)
    for user in (CONTROLLER, ALICE, BOB):
        (folder / user).mkdir(mode=0o700)
        shutil.chown(folder / user, user, GROUP)
    (folder / "spool").mkdir()
    shutil.chown(folder / "spool", CONTROLLER, GROUP)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "racksack.yaml"
    config.write_text(CONFIG.format(spool=folder / "spool", group=GROUP, port=port))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "racksack_controller", "--config", str(config)],
            user=CONTROLLER,
            group=GROUP,
            extra_groups=[],
            env={"HOME": str(folder / CONTROLLER), "PATH": os.environ["PATH"]},
            cwd="/",
            stdout=log,
            stderr=log,
        )
    try:
        _wait_until_up(folder, process)
        yield Shared(folder)
    finally:
        process.terminate()
        process.wait(timeout=30)
        shutil.rmtree(folder)


def _wait_until_up(folder: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < deadline, (folder / "log").read_text()
        try:
            with Client(str(folder / "spool")) as client:
                if any(node.state == "up" for node in client.nodes()):
                    return
        except Exception as error:  # noqa: BLE001 - whatever it is, it is not up yet
            print(error)
        time.sleep(0.1)


@pytest.fixture(scope="module")
def alices_job(shared: Shared) -> int:
    """A finished job of one user, with a secret in it."""
    done = shared.shell(ALICE, "mkdir p; echo 'print(\"secret\")' > p/main.py; chmod 600 p/main.py")
    assert done.returncode == 0, done.stderr
    said = shared.run(ALICE, "submit", "p", "main.py", "--no-venv", "--json")
    number = json.loads(said)["jobs"][0]
    shared.run(ALICE, "racksack", "wait", str(number), "-q")
    return int(number)


def test_the_owner_is_the_owner_of_the_file(shared: Shared, alices_job: int) -> None:
    job = json.loads(shared.run(ALICE, "racksack", "status", str(alices_job), "--json"))
    assert job["owner"] == ALICE


def test_mine_can_be_fetched_by_me(shared: Shared, alices_job: int) -> None:
    shared.run(ALICE, "fetch_results")
    assert shared.shell(ALICE, f"cat results/{alices_job}-main/stdout.log").stdout == "secret\n"


def test_others_see_that_it_exists_and_no_more(shared: Shared, alices_job: int) -> None:
    number = str(alices_job)
    assert number in shared.run(BOB, "racksack", "status")
    assert "for games and operators only" in shared.run(BOB, "racksack", "logs", number, code=5)
    assert "belongs to games" in shared.run(BOB, "racksack", "retry", number, code=5)
    shared.run(BOB, "fetch_results", number, code=7)
    assert shared.run(BOB, "fetch_results") == "nothing new\n"


def test_doctor_tells_who_is_not_in_the_group(shared: Shared) -> None:
    found = json.loads(shared.run(BOB, "racksack", "doctor", "--json"))
    assert {"controller", "nodes", "jobs"} <= {one["part"] for one in found}
    found = json.loads(shared.run(BOB, "racksack", "doctor", "--json", code=1, group="nogroup"))
    [failed] = [one for one in found if one["verdict"] == "failed"]
    assert failed["what"] == "connection"
    assert "ask to be added to the spool's group" in failed["sentence"]
    assert "systemctl" not in failed["sentence"], "it runs"


def test_others_cannot_read_files(shared: Shared, alices_job: int) -> None:
    spool = shared.spool
    for path in (
        spool / f"returns/{alices_job}/stdout.log",
        spool / "racksack.db",
        next((spool / "snapshots").iterdir()) / "main.py",
    ):
        done = shared.shell(BOB, f"cat '{path}'")
        assert done.returncode != 0, f"{path} can be read by another user"
    assert shared.shell(BOB, f"ls '{spool}/incoming'").returncode != 0
    assert shared.shell(BOB, f"ls '{spool}/returns/{alices_job}'").returncode != 0


def test_the_same_content_of_another_user_is_sent_by_that_user(shared: Shared, alices_job: int) -> None:
    """To know a digest is not to have the content."""
    shared.shell(BOB, "mkdir p; echo 'print(\"secret\")' > p/main.py")
    sent = json.loads(shared.run(BOB, "submit", "p", "main.py", "--no-venv", "--json"))
    assert sent["sent_files"] == 1
    again = json.loads(shared.run(BOB, "submit", "p", "main.py", "--no-venv", "--json"))
    assert again["sent_files"] == 0
    shared.run(BOB, "racksack", "wait", *map(str, sent["jobs"] + again["jobs"]), "-q")


def test_upload_under_way_is_closed_to_others(shared: Shared) -> None:
    """Also with a careless umask."""
    script = f"umask 0; mkdir '{shared.spool}/incoming/mine' && echo x > '{shared.spool}/incoming/mine/file'"
    assert shared.shell(ALICE, script).returncode == 0
    assert shared.shell(BOB, f"cat '{shared.spool}/incoming/mine/file'").returncode != 0
    assert shared.shell(CONTROLLER, f"cat '{shared.spool}/incoming/mine/file'").stdout == "x\n"
    assert shared.shell(BOB, f"rm -rf '{shared.spool}/incoming/mine'").returncode != 0


def test_my_own_content_can_be_read_again_for_the_next_rsync(shared: Shared, alices_job: int) -> None:
    """Else one changed file would send the whole project again."""
    digest = json.loads(shared.run(ALICE, "racksack", "status", str(alices_job), "--json"))["snapshot"]
    path = shared.spool / "snapshots" / digest / "main.py"
    assert "secret" in shared.shell(ALICE, f"cat '{path}'").stdout
    assert shared.shell(ALICE, f"echo x >> '{path}'").returncode != 0
