"""Partitions and retries with more memory, as a user meets them."""

from __future__ import annotations

from collections.abc import Callable

from tests.end_to_end import projects
from tests.end_to_end.site import Site

HUNGRY = "import os\nheld = bytearray(200 << 20)\nprint(os.environ['RACKSACK_RAM_MB'])\n"


def test_partitions_and_more_memory(make_site: Callable[..., Site]) -> None:
    site = make_site("")
    nodes = "".join(f"  n{at}: {{local: {{home: {site.home}/n{at}}}, cpus: 2, ram: 4G}}\n" for at in (1, 2))
    (site.home / "racksack.yaml").write_text(
        'web: {listen: "off"}\npartitions:\n  short: {nodes: [n1], default: yes, time_limit: 10m}\n'
        "  long: {nodes: [n2]}\nnodes:\n" + nodes
    )
    project = projects.make(site.work / "p", HUNGRY)
    site.start()
    usual = site.submit(project)
    long = site.submit(project, "-p", "long", "--ram", "100M", "--retry-on", "oom", "--oom-factor", "3")
    assert site.wait_for(usual, "done")["node"] == "n1"
    assert site.job(usual)["spec"]["time_limit_s"] == 600
    done = site.wait_for(long, "done")
    assert [(one["node"], one["state"]) for one in done["attempts"]] == [("n2", "oom"), ("n2", "done")]
    assert (site.returned(long) / "stdout.log").read_text() == "300\n"
    assert any("gets 300M of memory instead of 100M" in event["sentence"] for event in done["events"])
    never = site.cli("submit", project, "main.py", "--no-venv", "-p", "lnog", code=6).stderr
    assert "there is no partition lnog; there are: long, short" in never
    refused = site.cli("submit", project, "main.py", "--no-venv", "-t", "1h", code=6).stderr
    assert "partition short allows jobs of at most 10m00s, not 1h00m" in refused
    mistake = site.cli("submit", project, "main.py", "--oom-factor", "2", "--retry-on", "exit", code=2).stderr
    assert "--oom-factor: has no use without oom in retry_on" in mistake
