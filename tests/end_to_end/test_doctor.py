"""`racksack doctor` against a real controller: its disks, its store, its configuration, its nodes and its jobs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end import projects
from tests.end_to_end.site import CONFIG, Site, fill, until
from tests.nodes.sshd import Sshd, why_not

SmallDisk = Callable[[Path, int], None]
OF_CONTROLLER = ("running", "spool", "space", "store", "configuration", "uv", "inotify", "open files")


def doctor(site: Site, *argv: str, code: int | None = None) -> list[dict[str, str]]:
    """All findings."""
    found: list[dict[str, str]] = json.loads(site.cli("racksack", "doctor", *argv, "--json", code=code).stdout)
    return found


def told(found: list[dict[str, str]], part: str, what: str) -> tuple[str, str]:
    """Verdict and sentence of the one finding of this name."""
    matching = [one for one in found if (one["part"], one["what"]) == (part, what)]
    assert len(matching) == 1, found
    return matching[0]["verdict"], matching[0]["sentence"]


def is_up(site: Site, node: str = "here") -> bool:
    return any(one["name"] == node and one["state"] == "up" for one in site.ask("nodes"))


def started(site: Site) -> Site:
    site.start()
    until(lambda: is_up(site), "the node is up")
    return site


def test_a_controller_that_is_well(shared_site: Site) -> None:
    site = shared_site
    until(lambda: is_up(site), "the node is up")
    found = doctor(site, "here", code=0)
    assert [one["what"] for one in found if one["part"] == "controller"] == list(OF_CONTROLLER)
    for what in ("running", "spool", "store", "configuration", "uv", "inotify", "open files"):
        assert told(found, "controller", what)[0] == "ok", found
    assert str(site.home / "racksack.yaml") in told(found, "controller", "configuration")[1]
    assert "up for" in told(found, "nodes", "here")[1]
    assert "clock within 5 s" in told(found, "nodes", "here")[1]
    for what in ("reach", "python", "rsync", "session", "clock"):
        assert told(found, "nodes", f"here {what}")[0] == "ok", found
    assert told(found, "jobs", "waiting") == ("ok", "no job is waiting")
    assert not list(site.spool.rglob(".doctor-*")), "nothing is left behind"
    lines = site.cli("racksack", "doctor").stdout.splitlines()
    assert sum(line.split()[1] == "controller" for line in lines) == len(OF_CONTROLLER)


def test_a_node_that_there_is_none_of(shared_site: Site) -> None:
    done = shared_site.cli("racksack", "doctor", "elsewhere", code=3)
    assert "there is no node 'elsewhere'; there are: here" in done.stderr


def test_an_embedded_controller_that_cannot_start(make_site: Callable[..., Site]) -> None:
    site = make_site("nodes: nonsense\n")
    found = doctor(site, code=1)
    verdict, sentence = told(found, "client", "connection")
    assert verdict == "failed"
    assert "did not start" in sentence
    assert str(site.home / "controller.log") in sentence
    assert [one["verdict"] for one in found if one["part"] != "client"] == ["not_looked_at"] * 3


def test_the_configuration_on_disk_against_the_one_in_use(make_site: Callable[..., Site]) -> None:
    site = started(make_site())
    file = site.home / "racksack.yaml"
    file.write_text(CONFIG.replace("cpus: 8", "cpus: 6") + "  there: {local: {home: /nowhere}}\nkeep: {rejected: 1d}\n")
    verdict, sentence = told(doctor(site, code=0), "controller", "configuration")
    assert verdict == "warning"
    assert "nodes (here is changed, there is new): run `racksack controller reload`" in sentence
    assert "keep: restart the controller" in sentence
    file.write_text(CONFIG.replace("cpus: 8", "cpus: 6") + "keep: {rejected: 1d}\n")
    site.cli("racksack", "reload")
    verdict, sentence = told(doctor(site, code=0), "controller", "configuration")
    assert verdict == "warning"
    assert "reload" not in sentence
    assert "keep: restart the controller" in sentence
    file.write_text("nodes: {here: {local: {}, cpuz: 8}}\nweb: nonsense\n")
    found = doctor(site, code=1)
    assert told(found, "controller", "configuration")[0] == "failed"
    assert "2 mistakes" in told(found, "controller", "configuration")[1]
    assert "cpuz" in told(found, "controller", "mistakes")[1]
    assert "line 2" in told(found, "controller", "mistakes")[1]
    file.unlink()
    assert told(doctor(site, code=0), "controller", "configuration")[0] == "warning"


def test_a_full_spool(make_site: Callable[..., Site], small_disk: SmallDisk) -> None:
    site = make_site()
    small_disk(site.spool, 40)
    started(site)
    found = doctor(site, code=0)
    assert told(found, "controller", "spool")[0] == "ok"
    assert told(found, "controller", "space")[0] == "warning", "40 MiB are few"
    filler = fill(site.spool)
    found = doctor(site, code=1)
    verdict, sentence = told(found, "controller", "spool")
    assert verdict == "failed"
    assert "No space left on device, free space on its disk" in sentence
    assert "nothing free of 40M" in told(found, "controller", "space")[1]
    assert told(found, "controller", "store")[0] == "ok"
    filler.unlink()
    until(lambda: told(doctor(site), "controller", "spool")[0] == "ok", "there is room again")


def test_a_part_of_the_spool_that_became_read_only(make_site: Callable[..., Site], small_disk: SmallDisk) -> None:
    site = make_site()
    small_disk(site.spool / "incoming", 40)
    started(site)
    subprocess.run(["mount", "-o", "remount,ro", str(site.spool / "incoming")], check=True)
    found = doctor(site, code=1)
    verdict, sentence = told(found, "controller", "spool")
    assert verdict == "failed"
    assert sentence.startswith(f"cannot be written: {site.spool}/incoming: Read-only file system, ")
    assert "dmesg" in sentence
    assert "returns" not in sentence
    assert told(found, "controller", "space incoming")[0] == "warning"
    assert told(found, "controller", "store")[0] == "ok"


def test_results_that_cannot_be_stored(make_site: Callable[..., Site], small_disk: SmallDisk) -> None:
    site = make_site()
    small_disk(site.spool / "returns", 4)
    started(site)
    fill(site.spool / "returns")
    job = site.submit(projects.make(site.work / "p", "print('x' * 100_000)\n"))
    site.wait_for(job, "collecting")
    until(lambda: "full" in site.job(job)["why"] or "space" in site.job(job)["why"], "storing them was tried")
    found = doctor(site, code=1)
    verdict, sentence = told(found, "jobs", "results")
    assert verdict == "failed"
    assert sentence.startswith(f"of job {job} on here: ")
    assert "nothing is lost" in sentence
    assert told(found, "controller", "spool")[0] == "failed"
    assert str(site.spool / "returns") in told(found, "controller", "spool")[1]
    assert "nothing free" in told(found, "controller", "space returns")[1]


def test_jobs_that_can_never_run(make_site: Callable[..., Site]) -> None:
    site = started(make_site())
    site.cli("racksack", "drain", "here", "--reason", "a new disk")
    project = projects.make(site.work / "p", "print(1)\n")
    large = [site.submit(project, "--cpus", "8") for _ in range(2)]
    site.submit(project, "--cpus", "2")
    found = doctor(site, code=0)
    assert told(found, "jobs", "waiting") == ("ok", "3 waiting; each could run on some node")
    verdict, sentence = told(found, "nodes", "here")
    assert verdict == "warning"
    assert "a new disk" in sentence
    assert "`racksack resume here`" in sentence
    file = site.home / "racksack.yaml"
    file.write_text(CONFIG.replace("cpus: 8", "cpus: 4"))
    site.cli("racksack", "reload")
    until(lambda: site.ask("nodes/here")["cpus"]["total"] == 4, "the node has four CPUs")
    verdict, sentence = told(doctor(site, code=1), "jobs", "waiting")
    assert verdict == "failed"
    assert f"jobs {large[0]}, {large[1]} can never run: no node has 8 CPUs" in sentence


SLOW_CLOCK = """\
#!/bin/sh
# A Python whose clock is an hour behind.
case "$3" in
    -c) exec {python} "$1" "$2" -c "import time; _t = time.time; time.time = lambda: _t() - 3600
$4" ;;
esac
exec {python} "$@"
"""


@pytest.fixture
def nodes(make_site: Callable[..., Site]) -> Any:
    """A site with two nodes behind real sshds: the clock of one is wrong, the other lacks rsync."""
    if reason := why_not():
        pytest.skip(reason)
    site = make_site(None)
    wrong, bare = site.root / "wrong", site.root / "bare"
    for folder in (wrong, bare):
        folder.mkdir()
    (wrong / "python3").write_text(SLOW_CLOCK.format(python="/usr/bin/python3"))
    (wrong / "python3").chmod(0o755)
    for name in ("sh", "tmux", "python3"):
        (bare / name).symlink_to(f"/usr/bin/{name}")
    servers = {
        "late": Sshd(site.root / "sshd-late", path=f"{wrong}:/usr/bin:/bin"),
        "bare": Sshd(site.root / "sshd-bare", path=str(bare)),
    }
    lines = ["web: {listen: 'off'}", "nodes:"]
    for name, server in servers.items():
        server.start()
        settings = server.settings(site.root / f"home-{name}")
        ssh = {key: str(getattr(settings, key)) for key in ("host", "user", "identity", "host_key", "home")}
        lines.append(f"  {name}: {{ssh: {json.dumps({**ssh, 'port': settings.port})}}}")
    (site.home / "racksack.yaml").write_text("\n".join(lines) + "\n")
    yield site, servers
    for server in servers.values():
        server.stop()


def test_nodes_with_a_wrong_clock_without_rsync_and_with_another_key(nodes: Any) -> None:
    site, servers = nodes
    site.start()
    until(lambda: is_up(site, "late"), "the node with the wrong clock is up")
    until(lambda: "rsync" in (site.ask("nodes/bare")["why"] or ""), "the other was tried")
    until(lambda: site.ask("nodes/late")["load1"] is not None, "the node has told what it uses")
    found = doctor(site, code=1)
    verdict, sentence = told(found, "nodes", "late")
    assert verdict == "warning"
    assert "clock is -36" in sentence
    assert "run an NTP client" in sentence
    verdict, sentence = told(found, "nodes", "bare")
    assert verdict == "failed"
    assert "bare has no rsync" in sentence
    assert "`racksack doctor bare`" in sentence
    servers["late"].new_host_key()
    servers["late"].stop()
    servers["late"].start()
    found = doctor(site, "late", "bare", code=1)
    assert told(found, "nodes", "late reach")[0] == "failed"
    assert "key" in told(found, "nodes", "late reach")[1]
    assert "no rsync" in told(found, "nodes", "bare reach")[1]
