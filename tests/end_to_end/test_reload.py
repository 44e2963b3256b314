"""`racksack reload`: what changed is said, and running jobs are not lost without a question."""

from __future__ import annotations

from collections.abc import Callable

from tests.end_to_end import projects
from tests.end_to_end.site import CONFIG, Site, until

TWO = CONFIG + "  there: {local: {home: /nowhere}, cpus: 4, ram: 1G}\n"


def test_reload_says_what_changed_and_asks_before_jobs_are_lost(make_site: Callable[..., Site]) -> None:
    site = make_site(CONFIG)
    site.start()
    file = site.home / "racksack.yaml"
    assert site.cli("racksack", "reload").stdout == "configuration reloaded: no changes\n"
    file.write_text(TWO.replace("cpus: 8", "cpus: 6") + "keep: {rejected: 1d}\n")
    expected = "configuration reloaded: +there, here changed; restart the controller to apply keep (jobs go on)\n"
    assert site.cli("racksack", "reload").stdout == expected
    job = site.submit(projects.make(site.work / "p", "import time; time.sleep(300)\n"), "--node", "here")
    until(lambda: site.job(job)["state"] == "running", "it runs")
    file.write_text(TWO.replace("  here: {local: {}, cpus: 8, ram: 16G}\n", ""))
    refused = site.cli("racksack", "reload", code=5)
    assert "here runs 1 job, which would be lost" in refused.stderr
    assert site.job(job)["state"] == "running"
    assert site.cli("racksack", "reload", "--force").stdout.startswith("configuration reloaded: -here")
    until(lambda: site.job(job)["state"] != "running", "it is queued again")
    assert [node["name"] for node in site.ask("nodes")] == ["there"]
    file.write_text(CONFIG)
    assert "+here" in site.cli("racksack", "reload").stdout
    until(lambda: site.ask("nodes/here")["state"] == "up", "the node takes jobs again")
    until(lambda: site.job(job)["state"] == "running", "it runs again")
    site.cli("racksack", "cancel", str(job), "--force", "--wait")
