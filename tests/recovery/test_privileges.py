"""Root's rights are dropped before anything that users wrote is read."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from racksack_controller.commands.place import as_owner
from racksack_controller.recovery.errors import RecoveryError
from racksack_jobspecs.layout import Spool
from tests.recovery.conftest import findings
from tests.spool.conftest import needs_root

NOBODY = 65534
RACKSACK = str(Path(sys.executable).with_name("racksack"))


def give(path: Path) -> None:
    """To a user who is not root, with the way there."""
    path.parent.chmod(0o755)
    subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", str(path)], check=True)


def racksack(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([RACKSACK, *words], capture_output=True, text=True, check=False, timeout=120)


@needs_root
def test_the_work_is_done_as_the_spools_owner(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.root.mkdir()
    give(spool.root)

    def work() -> int:
        with pytest.raises(PermissionError):
            os.setuid(0)
        return 7 if os.getresuid() == (NOBODY,) * 3 and 0 not in os.getgroups() else 1

    assert as_owner(spool, work) == 7
    assert os.geteuid() == 0

    def fails() -> int:
        raise RecoveryError("it is not to be")

    assert as_owner(spool, fails) == 1


@needs_root
def test_root_makes_backups_and_repairs_of_another_users_spool(spool: Spool, root: Path) -> None:
    """The archive is root's, and closed to others; what is restored and repaired is the owner's."""
    give(spool.root)
    secret = root / "secret"
    secret.write_text("of root")
    secret.chmod(0o600)
    (spool.returned(1) / "link").symlink_to(secret)
    os.lchown(spool.returned(1) / "link", NOBODY, NOBODY)
    done = racksack("backup", str(root / "b.tar.gz"), "--spool", str(spool.root))
    assert done.returncode == 0, done.stderr
    info = (root / "b.tar.gz").stat()
    assert (info.st_uid, info.st_mode & 0o777) == (0, 0o600)
    with tarfile.open(root / "b.tar.gz") as archive:
        assert archive.getmember("returns/1/link").issym()
    done = racksack("backup", str(root / "folder"), "--spool", str(spool.root))
    assert done.returncode == 0, done.stderr
    done = racksack("restore", "--force", str(root / "b.tar.gz"), "--spool", str(spool.root))
    assert done.returncode == 0, done.stderr
    assert {path.lstat().st_uid for path in spool.root.rglob("*")} == {NOBODY}
    spool.database.unlink()
    done = racksack("fsck", "--repair", "--spool", str(spool.root))
    assert done.returncode == 0, done.stderr + done.stdout
    assert {path.lstat().st_uid for path in spool.root.rglob("*")} == {NOBODY}
    subprocess.run(["chown", "-R", "0:0", str(spool.root)], check=True)
    assert findings(spool) == []


@needs_root
@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("backup", "{root}/b.tar", "--spool", "{root}/none"), 1, "there is no store at"),
        (("backup", "{root}/none/b.tar", "--spool", "{spool}"), 1, "No such file or directory"),
        (("backup", "{spool}", "--spool", "{spool}"), 1, "is not empty and not a backup"),
        (("restore", "{root}", "--spool", "{spool}"), 1, "is not a complete backup"),
        (("restore", "{root}/none", "--spool", "{spool}"), 2, "does not exist"),
        (("fsck", "--spool", "{root}/none"), 1, "there is no spool at"),
        (("fsck", "--config", "{root}/none.yaml"), 2, "none.yaml"),
    ],
)
def test_what_is_in_the_way_is_a_sentence(
    spool: Spool, root: Path, words: tuple[str, ...], code: int, sentence: str
) -> None:
    done = racksack(*(word.format(root=root, spool=spool.root) for word in words))
    assert done.returncode == code, done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(root.glob(".*.new"))
