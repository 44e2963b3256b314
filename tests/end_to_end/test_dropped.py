"""Job files from people and tools that know nothing of racksack but its folders: cp, mv, slow writers, and worse."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.end_to_end import projects
from tests.end_to_end.site import Site, until

JOB = "project: {project}\nentrypoint: main.py\nenvironment: none\nname: {name}\n"


def upload(site: Site, name: str, script: str = "print('dropped')\n") -> Path:
    """A project in incoming/, as cp or rsync leave it."""
    project = projects.make(site.root / "uploads" / name, script)
    subprocess.run(["cp", "-a", str(project), str(site.spool / "incoming" / name)], check=True)
    return project


def named(site: Site, name: str) -> list[dict[str, object]]:
    return list(site.ask(f"jobs?name={name}"))


def refused(site: Site, file: str) -> str:
    """The reasons beside a refused file."""
    error = site.spool / f"jobs/rejected/{file}.error"
    until(error.exists, f"{file} is refused")
    return error.read_text()


def test_cp_mv_and_slow_writing(shared_site: Site) -> None:
    site = shared_site
    for way in ("cp", "mv", "slow"):
        upload(site, f"up-{way}")
        text = JOB.format(project=f"up-{way}", name=f"by-{way}")
        source = site.root / f"{way}.yaml"
        source.write_text(text)
        if way == "slow":
            # As scp does: one open file, which stands still for longer than a file needs to settle.
            write = 'exec 3> "$1"; head -c 25 "$0" >&3; sleep 2.5; tail -c +26 "$0" >&3'
            subprocess.run(["sh", "-c", write, str(source), str(site.spool / "jobs/slow.yaml")], check=True)
        else:
            subprocess.run([way, str(source), str(site.spool / f"jobs/{way}.yaml")], check=True)
        [job] = until(lambda way=way: named(site, f"by-{way}"), f"the file of {way} is taken")
        site.wait_for(job["id"], "done")
        assert (site.returned(job["id"]) / "stdout.log").read_text() == "dropped\n"
        assert not (site.spool / f"jobs/{way}.yaml").exists()
        assert not (site.spool / f"incoming/up-{way}").exists()


def test_the_same_submission_twice_is_one_job(shared_site: Site) -> None:
    site = shared_site
    upload(site, "up-twice")
    text = JOB.format(project="up-twice", name="twice") + "submission: twice-1\n"
    for file in ("one", "two", "three"):
        beside = site.root / file
        beside.write_text(text)
        beside.rename(site.spool / f"jobs/{file}.yaml")
    until(lambda: not any((site.spool / f"jobs/{file}.yaml").exists() for file in ("one", "two", "three")), "all taken")
    assert len(named(site, "twice")) == 1


def test_bad_files_neither_stop_nor_slow_the_good(shared_site: Site) -> None:
    site = shared_site
    upload(site, "up-good")
    bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
    bomb += "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 30))
    deep = "[" * 50_000
    bad = {
        "bomb": bomb.encode(),
        "deep": deep.encode(),
        "large": b"name: x\n" + b"# comment\n" * 1_050_000,
        "binary": bytes(range(256)) * 50,
        "empty": b"",
        "list": b"- 1\n",
        "unclosed": b"name: 'x\n",
        "tag": b"project: !!python/object/apply:os.system ['touch /tmp/rs-e2e-owned']\n",
        "unknown": b"project: up-good\nentrypoint: main.py\ncpu: 3\n",
        "outside": b"project: up-good\nentrypoint: ../../etc/passwd\n",
        "absolute": b"project: /etc\nentrypoint: passwd\n",
        "escape": b"project: ../projects\nentrypoint: main.py\n",
        "missing": b"project: up-good\nentrypoint: nowhere.py\n",
        "negative": b"project: up-good\nentrypoint: main.py\ncpus: -1\n",
        "unitless": b"project: up-good\nentrypoint: main.py\nram: 32\n",
        "infinite": b"project: up-good\nentrypoint: main.py\ncpus: .inf\n",
        "huge": b"project: up-good\nentrypoint: main.py\nram: 900T\n",
    }
    for name, content in bad.items():
        beside = site.root / name
        beside.write_bytes(content)
        beside.rename(site.spool / f"jobs/{name}.yaml")
    (site.spool / "jobs/folder.yaml").mkdir()
    os.mkfifo(site.spool / "jobs/pipe.yaml")
    (site.spool / "jobs/link.yaml").symlink_to("/etc/passwd")
    began = time.monotonic()
    for number in range(5):
        beside = site.root / f"good-{number}"
        beside.write_text(JOB.format(project="up-good", name=f"good-{number}"))
        beside.rename(site.spool / f"jobs/good-{number}.yaml")
    for number in range(5):
        until(lambda number=number: named(site, f"good-{number}"), f"the good file {number} is taken")
    assert time.monotonic() - began < 40
    for name in bad:
        reasons = refused(site, f"{name}.yaml")
        assert "Traceback" not in reasons
        assert len(reasons.splitlines()) >= 2, reasons
        assert len(reasons) < 3000, name
    assert "line" in refused(site, "unknown.yaml")
    assert "cpus" in refused(site, "unknown.yaml")
    assert "can never run" in refused(site, "huge.yaml")
    for name in ("pipe", "link"):
        refused(site, f"{name}.yaml")
    assert not Path("/tmp/rs-e2e-owned").exists()
    for number in range(5):
        site.wait_for(named(site, f"good-{number}")[0]["id"], "done")
    shutil.rmtree(site.spool / "jobs/folder.yaml", ignore_errors=True)


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../racksack.db", "inner/../../.."])
def test_a_project_with_a_link_that_leads_out_is_refused(shared_site: Site, target: str) -> None:
    site, name = shared_site, f"up-link-{len(target)}"
    project = projects.make(site.root / "uploads" / name, "print('x')\n")
    (project / "inner").mkdir()
    (project / "sneaky").symlink_to(target)
    done = site.cli("submit", project, "main.py", code=None)
    assert done.returncode != 0
    assert "sneaky" in done.stderr
    subprocess.run(["cp", "-a", str(project), str(site.spool / "incoming" / name)], check=True)
    beside = site.root / name
    beside.write_text(JOB.format(project=name, name=name))
    beside.rename(site.spool / f"jobs/{name}.yaml")
    assert "sneaky" in refused(site, f"{name}.yaml")
    assert not named(site, name)
