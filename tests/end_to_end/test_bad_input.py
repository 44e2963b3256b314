"""What jobs and disks do to the whole chain: escapes from the return folder, floods, odd names, full disks."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from tests.end_to_end import projects
from tests.end_to_end.site import CONFIG, Site, fill, until

MANY = int(os.environ.get("RACKSACK_TEST_FILES", "3000"))


def test_nothing_leads_out_of_a_return_folder(shared_site: Site, tmp_path: Path) -> None:
    site = shared_site
    secret = site.root / "secret"
    secret.write_text("4711")
    script = f"""
import os, pathlib, socket
out = pathlib.Path(os.environ["RACKSACK_RETURN_DIR"])
(out / "data").write_text("fine")
(out / "inside").symlink_to("data")
(out / "absolute").symlink_to({str(secret)!r})
(out / "up").symlink_to("../../../../../../secret")
(out / "folder").symlink_to("/etc")
os.mkfifo(out / "pipe")
socket.socket(socket.AF_UNIX).bind(str(out / "socket"))
(out / "stdout.log").unlink()
(out / "stdout.log").symlink_to({str(secret)!r})
(out / "closed").mkdir(mode=0)
"""
    job = site.submit(projects.make(site.work / "escapes", script))
    site.wait_for(job, "done")
    for folder in (site.returned(job), fetched(site, job, tmp_path)):
        for path in folder.rglob("*"):
            assert path.resolve().is_relative_to(folder.resolve()), path
            assert path.is_file() or path.is_dir(), path
        assert (folder / "data").read_text() == (folder / "inside").read_text() == "fine"
    done = site.cli("racksack", "logs", job, code=None)
    assert "4711" not in done.stdout + done.stderr


def fetched(site: Site, job: int, into: Path) -> Path:
    site.cli("fetch-results", job, "-o", into)
    [folder] = into.iterdir()
    return folder


def test_names_that_are_not_text_go_both_ways(shared_site: Site, tmp_path: Path) -> None:
    site = shared_site
    script = """
import os
out = os.fsencode(os.environ["RACKSACK_RETURN_DIR"])
for name in os.listdir(b"odd"):
    with open(os.path.join(b"odd", name), "rb") as file, open(os.path.join(out, name), "wb") as copy:
        copy.write(file.read())
"""
    project = projects.make(site.work / "odd", script)
    (project / "odd").mkdir()
    names = [b"\xff\xfe.bin", b"new\nline", b"tab\t", b"esc\x1b[31m", b" leading", b"-dash", b"quote'\"$`\\", b"*?[x]"]
    for name in names:
        (project / "odd" / os.fsdecode(name)).write_bytes(name)
    job = site.submit(project)
    site.wait_for(job, "done")
    folder = fetched(site, job, tmp_path)
    found = {os.fsencode(path.name): path.read_bytes() for path in folder.iterdir()}
    assert {name: found.get(name) for name in names} == {name: name for name in names}
    for command in (["racksack", "status", job], ["racksack", "history"]):
        assert "\x1b[31m" not in site.cli(*command).stdout


def test_output_beyond_the_limit_is_left_out_and_said(shared_site: Site) -> None:
    site = shared_site
    script = """
import os, pathlib, sys
out = pathlib.Path(os.environ["RACKSACK_RETURN_DIR"])
(out / "small").write_text("kept")
with open(out / "flood", "wb") as flood:
    for _ in range(20):
        flood.write(bytes(1 << 20))
print("x" * (1 << 20))
"""
    job = site.submit(projects.make(site.work / "flood", script), "--max-output", "4M")
    ended = until(lambda: (seen := site.job(job))["state"] in ("done", "failed") and seen, "it ends")
    folder = site.returned(job)
    result = json.loads((folder / "result.json").read_text())
    assert ended["state"] == "done", result
    assert (folder / "small").read_text() == "kept"
    assert not (folder / "flood").exists()
    assert "flood" in json.dumps(result), "what was left out is named"
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 6 << 20


def test_many_small_files_there_and_back(shared_site: Site, tmp_path: Path) -> None:
    site = shared_site
    script = "import os, shutil\nshutil.copytree('many', os.environ['RACKSACK_RETURN_DIR'] + '/many')\n"
    project = projects.make(site.work / "many", script)
    for number in range(MANY):
        folder = project / "many" / str(number // 500)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.txt").write_text(str(number))
    job = site.submit(project)
    site.wait_for(job, "done")
    folder = fetched(site, job, tmp_path)
    assert projects.contents(folder / "many") == projects.contents(project / "many")


def test_full_disk_of_the_spool(make_site: Callable[..., Site], small_disk: Callable[[Path, int], None]) -> None:
    """What runs goes on, nothing is lost, and all of it is finished once there is room."""
    site = make_site()
    small_disk(site.spool, 40)
    site.start()
    go = site.root / "go"
    script = (
        projects.TRACED + "\n(pathlib.Path(os.environ['RACKSACK_RETURN_DIR']) / 'big').write_bytes(bytes(1 << 20))\n"
    )
    project = projects.make(site.work / "p", script)
    running = site.submit(project, "--", go)
    site.wait_for(running, "running")
    until(site.traced, "it has begun")
    filler = fill(site.spool)
    go.touch()
    until(lambda: len(site.traced()) == 2, "it has ended")
    other = projects.make(site.work / "other", projects.TRACED, data=os.urandom(1 << 20))
    done = site.cli("submit", other, "main.py", "--no-venv", *site.tracing, "--", "0", code=None, timeout_s=120)
    assert done.returncode != 0
    assert "full" in done.stderr or "space" in done.stderr, done.stderr
    assert site.cli("racksack", "status").stdout
    site.kill()
    site.launch()  # a start with a full disk must not make it worse
    filler.unlink()
    site.cli("racksack", "status")
    site.wait_for(running, "done")
    assert (site.returned(running) / "big").stat().st_size == 1 << 20
    last = site.submit(other, "--", "0")
    site.wait_for(last, "done")
    assert [line.split()[:2] for line in site.traced() if line.split()[1].startswith(f"{running}.")] == [
        ["start", f"{running}.1"],
        ["end", f"{running}.1"],
    ]


def test_full_disk_of_a_node(make_site: Callable[..., Site], small_disk: Callable[[Path, int], None]) -> None:
    site = make_site(CONFIG.replace("local: {}", "local: {home: NODE}"))
    node = site.root / "node-home"
    (site.home / "racksack.yaml").write_text((site.home / "racksack.yaml").read_text().replace("NODE", str(node)))
    small_disk(node, 64)
    site.start()
    script = """
import os, pathlib
out = pathlib.Path(os.environ["RACKSACK_RETURN_DIR"])
(out / "first").write_text("kept")
with open(out / "flood", "wb", buffering=0) as flood:
    while True:
        if flood.write(bytes(1 << 20)) == 0: raise OSError("full")
"""
    job = site.submit(projects.make(site.work / "flood", script))
    site.wait_for(job, "failed")
    assert "disk is full" in site.job(job)["outcome_reason"]  # the traceback found no room either
    assert (site.returned(job) / "first").read_text() == "kept"
    until(lambda: not list((node / "attempts").iterdir()), "the node has room again")
    after = site.submit(projects.make(site.work / "after", "print('fine')\n"))
    site.wait_for(after, "done")
