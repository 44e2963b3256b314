"""What may become a snapshot and what may not, by whose hand, and what is said about it."""

import os
import shutil
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from racksack_controller.intake.copy_untrusted import Faults, copy_tree
from racksack_controller.intake.ingest import Content, IngestError, IngestPostponed, check_spec, examine, keep, refer
from racksack_controller.intake.spool import prepare
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.parse import parse_job
from racksack_jobspecs.snapshot import digest_of, manifest_of
from racksack_jobspecs.spec import JobSpec
from tests.spool.conftest import needs_root

NOBODY = 65534


def spec_of(rest: str = "") -> JobSpec:
    return parse_job(f"project: up1\nentrypoint: main.py\n{rest}")


@pytest.fixture
def upload(spool: Spool) -> Path:
    folder = spool.incoming / "up1"
    make_project(folder)
    return folder


def make_project(folder: Path) -> None:
    (folder / "data" / "empty").mkdir(parents=True)
    (folder / "main.py").write_text("print('hello')\n")
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "data" / "table.csv").write_text("1,2\n")
    (folder / "latest").symlink_to("data/table.csv")


def take(spool: Spool, spec: JobSpec | None = None, *, is_shared: bool = False, uid: int | None = None) -> Content:
    content = examine(spool, spec or spec_of(), os.geteuid() if uid is None else uid, is_shared=is_shared)
    assert content is not None
    keep(spool, content)
    return content


def refused(spool: Spool, spec: JobSpec | None = None, *, is_shared: bool = False, uid: int = 0) -> str:
    with pytest.raises(IngestError) as caught:
        examine(spool, spec or spec_of(), uid, is_shared=is_shared)
    return str(caught.value)


def test_an_upload_becomes_a_snapshot(spool: Spool, upload: Path) -> None:
    digest = digest_of(manifest_of(upload))
    content = take(spool)
    kept = spool.snapshots / digest
    assert (content.digest, content.files, content.size_bytes) == (digest, 3, 29)
    assert not upload.exists()
    assert digest_of(manifest_of(kept)) == digest
    assert stat.S_IMODE((kept / "main.py").stat().st_mode) == 0o444
    assert stat.S_IMODE((kept / "run.sh").stat().st_mode) == 0o555
    assert [entry.name for entry in os.scandir(spool.snapshots)] == [digest]


def test_identical_content_is_stored_once(spool: Spool, upload: Path) -> None:
    first = take(spool)
    inode = (spool.snapshots / first.digest / "main.py").stat().st_ino
    make_project(upload)
    os.utime(upload / "main.py", (0, 0))
    assert take(spool).digest == first.digest
    assert (spool.snapshots / first.digest / "main.py").stat().st_ino == inode
    assert list(spool.incoming.iterdir()) == []


def test_there_is_no_upload(spool: Spool) -> None:
    assert examine(spool, spec_of(), os.geteuid(), is_shared=False) is None


def test_examining_changes_nothing(spool: Spool, upload: Path) -> None:
    before = {path: path.lstat() for path in upload.rglob("*")}
    first = examine(spool, spec_of(), os.geteuid(), is_shared=False)
    assert first == examine(spool, spec_of(), os.geteuid(), is_shared=False)
    assert {path: path.lstat().st_mode for path in upload.rglob("*")} == {p: i.st_mode for p, i in before.items()}


ESCAPES: dict[str, Callable[[Path], None]] = {
    "absolute": lambda root: (root / "x").symlink_to("/etc/passwd"),
    "parents": lambda root: (root / "data" / "x").symlink_to("../../secret"),
    "parents of a folder that is not there": lambda root: (root / "x").symlink_to("no/../../secret"),
    "itself from outside": lambda root: (root / "x").symlink_to(f"../{root.name}/main.py"),
    "over another link": lambda root: sneak(root),
    "a folder": lambda root: (root / "x").symlink_to(".."),
}


def sneak(root: Path) -> None:
    """By its text `x` stays inside: but `deep/er/up` leads to the root, and `..` from there leads out."""
    (root / "deep" / "er").mkdir(parents=True)
    (root / "deep" / "er" / "up").symlink_to("../..")
    (root / "x").symlink_to("deep/er/up/../secret")


@pytest.mark.parametrize("kind", ESCAPES)
def test_links_that_lead_out_are_refused(spool: Spool, upload: Path, kind: str) -> None:
    ESCAPES[kind](upload)
    sentence = refused(spool)
    assert "points outside the project" in sentence
    assert " x " in sentence or "/x " in sentence


def test_links_inside_are_kept(spool: Spool, upload: Path) -> None:
    (upload / "dangling").symlink_to("data/not-yet")
    (upload / "data" / "back").symlink_to("../main.py")
    (upload / "loop").symlink_to("loop")
    (upload / "root").symlink_to(".")
    kept = spool.snapshots / take(spool).digest
    assert {path.name for path in kept.iterdir() if path.is_symlink()} == {"latest", "dangling", "loop", "root"}


def test_everything_wrong_is_named_at_once_and_long_lists_end(spool: Spool, upload: Path) -> None:
    os.mkfifo(upload / "pipe")
    with socket.socket(socket.AF_UNIX) as made:
        here = Path.cwd()
        os.chdir(upload)
        made.bind("socket")
        os.chdir(here)
    for number in range(30):
        (upload / f"link{number}").symlink_to("/etc")
    sentence = refused(spool)
    assert sentence.startswith("the project cannot be taken: ")
    assert sentence.endswith("; and 22 more. Fix these or leave them out, and submit again")
    assert "link0 points outside" in sentence.replace("the link ", "")


@pytest.mark.parametrize("name", [b"caf\xe9.txt", b"new\nline", b"<script>", "ünï.txt".encode(), b" $(reboot)"])
def test_any_file_name_is_kept(spool: Spool, upload: Path, name: bytes) -> None:
    (upload / os.fsdecode(name)).write_text("x")
    kept = spool.snapshots / take(spool).digest
    assert os.fsdecode(name) in {path.name for path in kept.iterdir()}


def test_an_odd_name_is_quoted_on_one_line(spool: Spool, upload: Path) -> None:
    os.mkfifo(upload / os.fsdecode(b"caf\xe9\n\x1b[31m"))
    sentence = refused(spool)
    assert sentence.isprintable()
    assert "device, socket or pipe" in sentence


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("entrypoint: mian.py", "the entrypoint mian.py is not in the project; did you mean main.py?"),
        ("entrypoint: other/x.py", "the entrypoint other/x.py is not in the project; send it too"),
        ("entrypoint: data", "the entrypoint data is a folder; name the file in it"),
        ("requirements: req.txt", "the requirements file req.txt is not in the project; send it too"),
        ("environment: lock", "the requirements file uv.lock is not in the project; send it too"),
        ("stage_in_ram: [data, gone.bin]", "there is no gone.bin, which stage_in_ram (--ramdisk) names"),
        (
            "entrypoint: x.py\nrequirements: y.txt",
            "the entrypoint x.py is not in the project; send it too; "
            "the requirements file y.txt is not in the project; send it too",
        ),
    ],
)
def test_what_the_spec_names_must_be_there(spool: Spool, upload: Path, rest: str, expected: str) -> None:
    lines = ["project: up1", "entrypoint: main.py"]
    text = "\n".join(line for line in lines if line.partition(":")[0] + ":" not in rest)
    assert refused(spool, parse_job(f"{text}\n{rest}\n")) == expected


def test_an_entrypoint_may_be_a_link_inside(spool: Spool, upload: Path) -> None:
    (upload / "start").symlink_to("run.sh")
    check_spec(upload, parse_job("project: up1\nentrypoint: start\n"))


def test_an_upload_that_is_no_folder(spool: Spool) -> None:
    (spool.incoming / "up1").write_text("x")
    assert refused(spool) == "the upload up1 is not a folder; send the project as a folder"


def test_an_upload_that_is_a_link_is_not_followed(spool: Spool) -> None:
    (spool.incoming / "up1").symlink_to("/etc")
    assert "is not a folder" in refused(spool)


@needs_root
def test_what_cannot_be_read_is_named(open_folder: Path) -> None:
    """As an ordinary user: root can read everything."""
    spool = Spool(open_folder / "spool")
    prepare(spool)
    make_project(spool.incoming / "up1")
    subprocess.run(["chown", "-R", "65534:65534", str(spool.root)], check=True)
    for name in ("main.py", "data"):
        (spool.incoming / "up1" / name).chmod(0)
    with as_user(NOBODY):
        sentence = refused(spool, uid=NOBODY)
    assert "main.py cannot be read (Permission denied)" in sentence
    assert "data cannot be read (Permission denied)" in sentence


class as_user:  # noqa: N801 - reads like a statement
    """Act as another user for a while."""

    def __init__(self, uid: int) -> None:
        self._uid = uid

    def __enter__(self) -> None:
        os.seteuid(self._uid)

    def __exit__(self, *_: object) -> None:
        os.seteuid(0)


@pytest.fixture
def shared(open_folder: Path) -> Spool:
    spool = Spool(open_folder / "spool")
    prepare(spool, "nogroup")
    return spool


def give(folder: Path, uid: int = NOBODY) -> None:
    subprocess.run(["chown", "-hR", f"{uid}:65534", str(folder)], check=True)


@needs_root
def test_another_users_upload_is_copied_out_of_his_reach(shared: Spool) -> None:
    upload = shared.incoming / "up1"
    make_project(upload)
    give(upload)
    digest = digest_of(manifest_of(upload))
    with open(upload / "main.py", "a") as held:  # its owner keeps a file open and goes on writing
        assert take(shared, is_shared=True, uid=NOBODY).digest == digest
        held.write("import os\n")
    kept = shared.snapshots / digest
    assert digest_of(manifest_of(kept)) == digest
    assert (kept / "main.py").stat().st_uid == os.geteuid()
    assert not upload.exists()
    assert [entry.name for entry in os.scandir(shared.snapshots)] == [digest]


@needs_root
def test_rsync_as_the_page_tells_it(shared: Spool, open_folder: Path) -> None:
    """docs/file-protocol.md, by a user whose own files are closed to everybody."""
    page = (Path(__file__).parents[2] / "docs" / "file-protocol.md").read_text()
    options = ["-rlt", "--chmod=ug+rwX"]
    assert f"rsync {' '.join(options)} ./project/ " in page
    project = open_folder / "project"
    make_project(project)
    give(project)
    subprocess.run(["chmod", "-R", "go-rwx", str(project)], check=True)
    target = str(shared.incoming / "up1")
    subprocess.run(["rsync", *options, f"{project}/", f"{target}/"], user=NOBODY, group=NOBODY, check=True)
    with as_user(54321):
        assert not os.access(target, os.R_OK, effective_ids=True)
    content = take(shared, is_shared=True, uid=NOBODY)
    assert content.digest == digest_of(manifest_of(project))


@needs_root
def test_an_upload_of_somebody_else_is_refused(shared: Spool) -> None:
    make_project(shared.incoming / "up1")
    give(shared.incoming / "up1")
    assert (
        refused(shared, is_shared=True, uid=12345)
        == "the upload up1 belongs to another user; upload the project yourself"
    )
    assert (
        refused(shared, is_shared=True, uid=0) == "the upload up1 belongs to another user; upload the project yourself"
    )
    assert (shared.incoming / "up1" / "main.py").exists()


@needs_root
def test_a_file_of_somebody_else_in_an_upload_is_refused(shared: Spool) -> None:
    """A hard link to what only the controller can read would hand it over."""
    upload = shared.incoming / "up1"
    make_project(upload)
    give(upload)
    secret = shared.root / "secret"
    secret.write_text("secret")
    secret.chmod(0o600)
    os.link(secret, upload / "mine.txt")
    assert "mine.txt belongs to another user" in refused(shared, is_shared=True, uid=NOBODY)
    assert list(shared.snapshots.iterdir()) == []


@needs_root
def test_a_refused_copy_leaves_nothing(shared: Spool) -> None:
    upload = shared.incoming / "up1"
    make_project(upload)
    (upload / "x").symlink_to("/etc/passwd")
    give(upload)
    assert "points outside" in refused(shared, is_shared=True, uid=NOBODY)
    assert list(shared.snapshots.iterdir()) == []
    assert (upload / "main.py").exists()


@needs_root
def test_a_folder_that_turns_into_a_link_meanwhile_leads_nowhere(shared: Spool) -> None:
    """Its owner swaps a folder for a link as fast as he can while it is copied, again and again."""
    upload = shared.incoming / "up1"
    (upload / "a").mkdir(parents=True)
    (upload / "a" / "f").write_text("mine")
    give(upload)
    secrets = shared.root / "secrets"
    secrets.mkdir()
    (secrets / "f").write_text("secret")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            (upload / "a").rename(upload / "b")
            (upload / "a").symlink_to(secrets)
            os.lchown(upload / "a", NOBODY, -1)
            (upload / "a").unlink()
            (upload / "b").rename(upload / "a")

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        for number in range(300):
            target = shared.snapshots / f"copy{number}"
            copy_tree(upload, target, NOBODY, Faults())
            for found in target.rglob("f"):
                assert found.is_symlink() or found.parent.is_symlink() or found.read_text() == "mine"
    finally:
        stop.set()
        swapping.join()


def test_a_project_nested_too_deep_is_refused_not_followed(spool: Spool, tmp_path: Path) -> None:
    deep = tmp_path / "deep"
    folder = deep
    for _ in range(150):
        folder = folder / "d"
    folder.mkdir(parents=True)
    faults = Faults()
    copy_tree(deep, tmp_path / "copy", os.geteuid(), faults)
    assert "more than 100 folders deep" in faults.sentence("it")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k,mode=755", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@needs_root
def test_a_full_disk_postpones_and_loses_nothing(small_disk: Path) -> None:
    spool = Spool(small_disk / "spool")
    prepare(spool, "nogroup")
    upload = spool.incoming / "up1"
    make_project(upload)
    (upload / "big").write_bytes(os.urandom(250_000))
    give(upload)
    with pytest.raises(
        IngestPostponed, match=r"the controller's disk is nearly full.*free space in the spool, and the job is accepted"
    ):
        examine(spool, spec_of(), NOBODY, is_shared=True)
    assert list(spool.snapshots.iterdir()) == []
    assert (upload / "big").stat().st_size == 250_000
    (upload / "big").write_bytes(b"smaller")
    give(upload)
    assert take(spool, is_shared=True, uid=NOBODY).files == 4


def test_hard_links_to_older_content_are_fine(spool: Spool, upload: Path) -> None:
    """What rsync --link-dest makes of an unchanged file."""
    first = take(spool)
    make_project(upload)
    (upload / "main.py").unlink()
    os.link(spool.snapshots / first.digest / "main.py", upload / "main.py")
    (upload / "data" / "table.csv").write_text("changed\n")
    second = take(spool)
    assert second.digest != first.digest
    for content in (first, second):
        assert digest_of(manifest_of(spool.snapshots / content.digest)) == content.digest


def test_a_reference_marks_its_content_as_used(spool: Spool, upload: Path) -> None:
    kept = spool.snapshots / take(spool).digest
    os.utime(kept, (0, 0))
    assert refer(spool, kept.name) == kept
    assert kept.stat().st_mtime > time.time() - 100
    assert refer(spool, "0" * 64) is None


@pytest.mark.timeout(600)
def test_many_small_files(spool: Spool) -> None:
    """RACKSACK_TEST_FILES=50000 is the full size."""
    count = int(os.environ.get("RACKSACK_TEST_FILES", "5000"))
    upload = spool.incoming / "up1"
    upload.mkdir()
    (upload / "main.py").touch()
    for number in range(count):
        folder = upload / f"d{number % 50}"
        folder.mkdir(exist_ok=True)
        (folder / f"f{number}").write_text(str(number))
    assert take(spool).files == count + 1
    shutil.rmtree(spool.snapshots)
