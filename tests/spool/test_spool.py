"""The spool's folders, who may do what in them, and the lock."""

import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from racksack_controller.intake.reject import reject
from racksack_controller.intake.spool import SpoolBusyError, SpoolError, SpoolLock, prepare
from racksack_jobspecs.layout import Spool
from tests.spool.conftest import GOOD, needs_root
from tests.spool.test_rejecting import PROBLEMS, seen

NOBODY, ANOTHER, GROUP = 65534, 54321, 65534


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def run_as(uid: int, *argv: str, group: int = GROUP) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv,
        user=uid,
        group=uid if uid != NOBODY else GROUP,
        extra_groups=[group],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_spool_of_one_user_is_closed(spool: Spool) -> None:
    for folder in (
        spool.root,
        spool.incoming,
        spool.jobs,
        spool.rejected,
        spool.snapshots,
        spool.projects,
        spool.returns,
    ):
        assert mode(folder) == 0o700
    assert mode(spool.database) == 0o600


def test_it_can_be_prepared_again_and_is_mended(spool: Spool) -> None:
    (spool.jobs / "job.yaml").write_text(GOOD)
    spool.root.chmod(0o777)
    spool.database.write_text("kept")
    prepare(spool)
    assert mode(spool.root) == 0o700
    assert (spool.jobs / "job.yaml").read_text() == GOOD
    assert spool.database.read_text() == "kept"


@needs_root
def test_members_drop_files_and_see_nobody_elses(open_folder: Path) -> None:
    spool = Spool(open_folder / "spool")
    prepare(spool, "nogroup")
    prepare(spool, "nogroup")
    assert (mode(spool.jobs), mode(spool.incoming)) == (0o3730, 0o3730)
    path = str(spool.jobs / "job.yaml")
    assert run_as(NOBODY, "sh", "-c", f"umask 077; echo hello > {path}").returncode == 0
    assert run_as(NOBODY, "cat", path).stdout == "hello\n"
    assert run_as(NOBODY, "ls", str(spool.jobs)).returncode != 0
    assert run_as(ANOTHER, "cat", path).returncode != 0
    assert run_as(ANOTHER, "rm", "-f", path).returncode != 0
    assert run_as(ANOTHER, "mv", path, f"{path}2").returncode != 0
    upload = str(spool.incoming / "up1")
    assert (
        run_as(NOBODY, "sh", "-c", f"mkdir {upload}; echo secret > {upload}/data; chmod -R o+rwX {upload}").returncode
        == 0
    )
    for closed in (spool.snapshots, spool.projects, spool.database):
        assert run_as(NOBODY, "ls", str(closed) + "/" * closed.is_dir()).returncode != 0 or not closed.is_dir()
        assert run_as(NOBODY, "head", "-c1", str(closed)).returncode != 0


@needs_root
def test_outsiders_come_to_nothing(open_folder: Path) -> None:
    spool = Spool(open_folder / "spool")
    prepare(spool, "nogroup")
    outsider = subprocess.run(
        ["touch", str(spool.jobs / "x.yaml")], user=ANOTHER, group=ANOTHER, extra_groups=[], check=False
    )
    assert outsider.returncode != 0


_UNPRIVILEGED = """
import sys
from pathlib import Path
from racksack_controller.intake.spool import prepare
from racksack_jobspecs.layout import Spool
prepare(Spool(Path(sys.argv[1])), sys.argv[2])
"""


@needs_root
def test_a_controller_without_privileges_reads_what_members_drop(open_folder: Path) -> None:
    """The controller is an ordinary user here, as under systemd: only the default ACLs let it read."""
    home = open_folder / "home"
    home.mkdir()
    os.chown(home, ANOTHER, GROUP)
    home.chmod(0o711)
    spool = Spool(home / "spool")
    python = [sys.executable, "-c", _UNPRIVILEGED, str(spool.root), "nogroup"]
    made = run_as(ANOTHER, *python)
    assert made.returncode == 0, made.stderr
    upload, job = spool.incoming / "up1", spool.jobs / "job.yaml"
    assert run_as(NOBODY, "sh", "-c", f"mkdir {upload}; echo 1 > {upload}/main.py; echo 2 > {job}").returncode == 0
    assert run_as(ANOTHER, "cat", str(upload / "main.py"), str(job)).stdout == "1\n2\n"
    assert run_as(ANOTHER, "rm", str(job)).returncode == 0
    assert run_as(54322, "cat", str(upload / "main.py")).returncode != 0


@needs_root
def test_whoever_dropped_a_refused_file_can_read_why(open_folder: Path) -> None:
    spool = Spool(open_folder / "spool")
    prepare(spool, "nogroup")
    run_as(NOBODY, "sh", "-c", f"echo bad > {spool.jobs}/job.yaml")
    reject(spool, seen(spool.jobs / "job.yaml"), PROBLEMS)
    error = str(spool.rejected / "job.yaml.error")
    assert "no unit" in run_as(NOBODY, "cat", error).stdout
    assert run_as(ANOTHER, "cat", error).returncode != 0


def test_a_group_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpoolError, match="there is no group nosuchgroup; make it with: groupadd --system nosuchgroup"):
        prepare(Spool(tmp_path / "spool"), "nosuchgroup")


def test_a_missing_setfacl_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import grp

    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SpoolError, match="install the package acl"):
        prepare(Spool(tmp_path / "spool"), grp.getgrgid(os.getegid()).gr_name)


@needs_root
def test_a_spool_of_somebody_else_is_refused(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    prepare(spool)
    os.chown(spool.root, NOBODY, -1)
    with pytest.raises(SpoolError, match="belongs to nobody; run the controller as that user"):
        prepare(spool)


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "jobs").write_text("")
    with pytest.raises(SpoolError, match="spool/jobs"):
        prepare(Spool(tmp_path / "spool"))


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "elsewhere").mkdir(mode=0o755)
    (tmp_path / "spool" / "jobs").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SpoolError):
        prepare(Spool(tmp_path / "spool"))
    assert mode(tmp_path / "elsewhere") == 0o755


def test_one_controller_at_a_time(spool: Spool) -> None:
    lock = SpoolLock(spool)
    with pytest.raises(SpoolBusyError, match=f"another controller .pid {os.getpid()}. holds the spool"):
        SpoolLock(spool)
    lock.release()
    SpoolLock(spool).release()


def test_the_lock_holds_without_its_file(spool: Spool) -> None:
    lock = SpoolLock(spool)
    spool.lock.unlink()
    with pytest.raises(SpoolBusyError):
        SpoolLock(spool)
    lock.release()
    SpoolLock(spool).release()


def test_the_lock_of_a_killed_controller_is_free(spool: Spool) -> None:
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom racksack_controller.intake.spool import SpoolLock\n"
        "from racksack_jobspecs.layout import Spool\nlock = SpoolLock(Spool(Path(sys.argv[1])))\n"
        "print('held', flush=True)\ntime.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(spool.root)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(SpoolBusyError, match=str(holder.pid)):
            SpoolLock(spool)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    SpoolLock(spool).release()


def test_setfacl_is_here() -> None:
    """The tests of shared spools mean nothing without it."""
    assert shutil.which("setfacl")
