"""A running job makes room for a more important one, and runs again afterwards."""

from __future__ import annotations

from collections.abc import Callable

from tests.end_to_end import projects
from tests.end_to_end.site import CONFIG, Site, until


def test_a_preemptible_job_is_queued_again_and_both_stories_say_why(make_site: Callable[..., Site]) -> None:
    site = make_site(CONFIG + "scheduling: {preempt: yes}\n")
    project = projects.make(site.work / "p", projects.TRACED)
    site.start()
    go = site.root / "go"
    low = site.submit(project, "--cpus", 8, "--preemptible", "--", go)
    until(lambda: site.traced(), "it has begun")
    high = site.submit(project, "--cpus", 8, "--priority", 10, "--", "0")
    site.wait_for(high, "done")
    go.touch()
    done = site.wait_for(low, "done")
    assert [attempt["state"] for attempt in done["attempts"]] == ["cancelled", "done"]
    told = [event["sentence"] for event in done["events"]]
    assert f"ended to make room for job {high}, which has a higher priority; it is queued again" in told
    told = [event["sentence"] for event in site.job(high)["events"]]
    assert any(f"job {low}, which may be preempted" in sentence for sentence in told)
    assert (site.returned(low) / "attempts/1/stdout.log").read_text() == "started\n"
