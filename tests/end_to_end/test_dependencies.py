"""Jobs after other jobs, arrays and sweeps, as somebody types them; and jobs that are run again."""

from __future__ import annotations

import concurrent.futures
import json
import os
import time
from pathlib import Path

import pytest

from tests.end_to_end import projects
from tests.end_to_end.site import CONFIG, Site, until

GATED = """
import os, pathlib, sys, time
index = os.environ.get("RACKSACK_ARRAY_INDEX", "")
while not os.path.exists(sys.argv[1] + index): time.sleep(0.02)
sys.exit(int(pathlib.Path(sys.argv[1] + index).read_text() or 0))
"""
SWEPT = "import os, time\ndef f(x):\n    while not os.path.exists(GO): time.sleep(0.02)\n    return x\n"


@pytest.fixture
def gate(site: Site) -> Path:
    site.start()
    projects.make(site.work / "gated", GATED)
    projects.make(site.work / "ok", "print('ok')\n")
    return site.root / "gate"


def after(site: Site, word: object, *argv: object) -> int:
    return site.submit(site.work / "ok", "--after", word, *argv)


def refused(site: Site, word: object) -> str:
    return site.cli("submit", site.work / "ok", "main.py", "--no-venv", "--after", word, code=None).stderr


def test_chains_of_short_jobs_whose_content_is_taken_in_meanwhile(site: Site) -> None:
    """The first job of each chain ends while the second one's project is read."""
    site.start()

    def chain(number: int) -> int:
        folder = projects.make(site.work / f"p{number}", "print('ok')\n", data=os.urandom(1 << 22))
        first = site.submit(folder, "-c", "0.2", "--ram", "100M")
        (folder / "data").write_bytes(os.urandom(1 << 22))
        return site.submit(folder, "-c", "0.2", "--ram", "100M", "--after", first)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        second = list(pool.map(chain, range(8)))
    site.all_ended(16)
    assert {site.job(number)["state"] for number in second} == {"done"}


def test_every_way_to_name_an_array_means_all_of_it(site: Site, gate: Path) -> None:
    array = site.submit(site.work / "gated", "--array", "0-2", "--name", "train", "--", gate)
    Path(f"{gate}0").touch()
    site.wait_for(array, "done")
    jobs = [after(site, word) for word in (array, "train", f"afterok:{array}", f"afterany:{array}", f"{array}[1]")]
    paired = int(
        site.cli("submit", site.work / "ok", "main.py", "--parsable", "--no-venv", "-d", f"aftercorr:{array}",
                 "--array", "1-2").stdout.split()[0]
    )  # fmt: skip
    assert after(site, f"{array}[0]")
    assert site.job(jobs[0])["waits_for"] == site.job(jobs[1])["waits_for"] == [f"afterok:{array}"]
    assert site.job(jobs[4])["after"] == [f"afterok:{array}[1]"]
    assert "after array" in site.cli("racksack", "why", jobs[0]).stdout
    Path(f"{gate}1").write_text("7")
    for number in (*jobs[:3], jobs[4], paired):
        reason = site.wait_for(number, "cancelled")["outcome_reason"]
        assert "ended as failed (afterok)" in reason, reason
    assert site.job(jobs[3])["state"] == "queued"
    Path(f"{gate}2").touch()
    site.wait_for(jobs[3], "done")
    site.wait_for(paired + 1, "done")
    site.wait_for(after(site, f"afternotok:{array}"), "done")
    for word in (array, "train", f"{array}_1"):
        assert f"{array}[1], which it waits for, ended as failed" in refused(site, word)
    assert f"array {array} has no element 9; it has 0-2" in refused(site, f"{array}[9]")


def test_a_chain_that_is_run_again_keeps_its_order(site: Site, gate: Path) -> None:
    first = site.submit(site.work / "gated", "--", gate)
    second = after(site, first)
    gate.write_text("3")
    site.wait_for(second, "cancelled")
    assert "retry that one too" in site.cli("racksack", "retry", second, code=5).stderr
    gate.unlink()
    site.cli("racksack", "retry", second, first)  # in any order
    site.wait_for(first, "running")
    assert site.job(second)["state"] == "queued"
    gate.touch()
    site.wait_for(second, "done")
    assert site.job(first)["ended_at_s"] <= site.job(second)["started_at_s"]


def test_a_sweep_is_waited_for_and_waits(site: Site, gate: Path) -> None:
    (site.work / "swept").mkdir()
    (site.work / "swept/s.py").write_text(SWEPT.replace("GO", repr(str(gate))))
    first = site.submit(site.work / "gated", "--", f"{gate}first")
    site.cli("racksack", "sweep", "run", site.work / "swept", "s.py:f", "-p", "x=1:20", "--no-venv", "-y", "-q",
             "--name", "grid", "--after", first)  # fmt: skip
    sweep = json.loads(site.cli("racksack", "sweep", "status", "--json").stdout)[0]["id"]
    jobs = [after(site, sweep), after(site, "grid"), after(site, f"afternotok:{sweep}")]
    assert f"after sweep {sweep} is done" in site.cli("racksack", "why", jobs[1]).stdout
    site.kill()
    Path(f"{gate}first").touch()
    site.start()
    site.cli("racksack", "sweep", "stop", sweep)
    time.sleep(0.5)
    assert [site.job(number)["state"] for number in jobs] == ["queued"] * 3
    gate.touch()
    site.cli("racksack", "sweep", "resume", sweep)
    for number in jobs[:2]:
        site.wait_for(number, "done")
    assert f"sweep {sweep}, which it waits for, ended as done" in site.wait_for(jobs[2], "cancelled")["outcome_reason"]


def test_a_sweep_after_a_failure_ends_with_the_reason(site: Site, gate: Path) -> None:
    (site.work / "swept").mkdir()
    (site.work / "swept/s.py").write_text(SWEPT.replace("GO", repr(str(gate))))
    first = site.submit(site.work / "gated", "--", f"{gate}first")
    site.cli("racksack", "sweep", "run", site.work / "swept", "s.py:f", "-p", "x=1:20", "--no-venv", "-y", "-q",
             "--after", first)  # fmt: skip
    sweep = json.loads(site.cli("racksack", "sweep", "status", "--json").stdout)[0]["id"]
    Path(f"{gate}first").write_text("1")

    def ended() -> str:
        status = json.loads(site.cli("racksack", "sweep", "status", sweep, "--json").stdout)
        return str(status["reason"]) if status["state"] == "failed" else ""

    assert f"job {first}, which it waits for, ended as failed" in until(ended, "the sweep has ended")


def test_a_job_whose_project_is_no_longer_kept_stays_as_it_ended(make_site: object) -> None:
    site = make_site(CONFIG + "keep: {snapshots: 1s}\n")  # type: ignore[operator]
    site.start()
    job = site.submit(projects.make(site.work / "p", "print('ok')\n"))
    other = site.submit(projects.make(site.work / "q", "print('other')\n"))
    site.wait_for(job, "done")
    site.wait_for(other, "done")
    time.sleep(1.5)
    site.kill()
    site.start()  # a start removes what is not kept
    until(lambda: not list((site.spool / "snapshots").glob("[0-9a-f]*")), "the projects are gone")
    said = site.cli("racksack", "retry", job, code=5).stderr
    assert "its project is no longer kept; submit it again" in said
    assert site.job(job)["state"] == "done"
    assert json.loads((site.returned(job) / "result.json").read_text())["state"] == "done"
    assert "no longer, kept" in site.cli("racksack", "retry", job, "--cpus", "0.5", code=None).stderr


def test_many_jobs_are_cancelled_in_one_request_and_none_starts_meanwhile(site: Site, gate: Path) -> None:
    array = site.submit(site.work / "gated", "--array", "0-59", "-c", "4", "--", gate)
    site.wait_for(array, "running")
    said = site.cli("racksack", "cancel", "--all", "--yes").stdout
    assert "60 jobs are cancelled or being cancelled" in said
    site.all_ended(60)
    started = [job for job in site.ask("jobs?all=1&limit=100") if job["attempt"]]
    assert len(started) == 2


def test_a_damaged_copy_of_a_project_ends_its_job_clearly_and_is_sent_again(site: Site) -> None:
    site.start()
    folder = projects.make(site.work / "p", "print('ok')\n")
    job = site.submit(folder, "--hold")
    [main] = (site.spool / "snapshots").glob("*/main.py")
    main.chmod(0o644)
    main.write_text("print('OK')\n")
    site.cli("racksack", "release", job)
    assert "is damaged; submit it again" in site.wait_for(job, "stage_failed")["outcome_reason"]
    site.wait_for(site.submit(folder), "done")


def test_the_receipt_says_what_a_job_waits_for(site: Site, gate: Path) -> None:
    held = site.cli("submit", site.work / "ok", "main.py", "--no-venv", "--hold", "--name", "first").stdout
    assert "; it is held; `racksack release` lets it start" in held
    for word in ("first", "1", "afterany:1"):
        said = site.cli("submit", site.work / "ok", "main.py", "--no-venv", "--after", word).stdout
        assert "; after job 1 " in said
        assert "(it is held)" in said
    assert (
        "; it is held; `racksack release` lets it start"
        in site.cli("submit", site.work / "ok", "main.py", "--hold", "--after", "1").stdout
    )
    tried = site.cli("submit", site.work / "ok", "main.py", "--dry-run", "--after", "99", code=2)
    assert "there is no job 99" in tried.stderr


def test_an_array_is_known_by_its_results(site: Site, gate: Path) -> None:
    array = site.submit(site.work / "ok", "--array", "5-6")
    site.all_ended(2)
    found = [json.loads((site.returned(number) / "result.json").read_text()) for number in (array, array + 1)]
    assert [(one["array_id"], one["array_index"]) for one in found] == [(array, 5), (array, 6)]


def test_a_retry_is_followed(site: Site, gate: Path) -> None:
    job = site.submit(site.work / "ok")
    site.wait_for(job, "done")
    seen = site.cli("racksack", "retry", job, "-f")
    assert seen.stdout.splitlines()[-1] == "ok"
    changed = site.cli("racksack", "retry", job, "--cpus", "0.5", "--wait")
    assert f"{job} queued again as {job + 1}" in changed.stdout
    assert site.job(job + 1)["state"] == "done"


def test_a_drain_needs_no_reason(site: Site, gate: Path) -> None:
    site.cli("racksack", "drain", "here")
    assert "no reason given" in site.cli("racksack", "nodes").stdout
