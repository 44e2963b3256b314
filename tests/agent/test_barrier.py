"""Attempts that wait for the go once they are prepared."""

from __future__ import annotations

from tests.agent.serving import order

SAY = "print('started', flush=True)\n"


def prepared(serve, name: str) -> None:
    serve.wait(lambda: serve.reports.get(name, {}).get("state") not in (None, "preparing"))
    assert serve.reports[name]["state"] == "prepared", serve.reports[name]


def test_nothing_starts_before_the_go(serve, project, home):
    digest = serve.project(project(main__py=SAY))
    serve.launch(*(order(name, digest, "main.py", go_within_s=60) for name in ("7.1", "7.1@1")))
    for name in ("7.1", "7.1@1"):
        prepared(serve, name)
        assert not (home / "attempts" / name / "out" / "stdout.log").exists()
    serve.call("go", attempts=["7.1@1", "8.1"])  # one that is not here is no error
    serve.call("go", attempts=["7.1@1"])
    assert serve.ended("7.1@1")["outcome"] == "done"
    assert serve.out("7.1@1") == "started\n"
    assert serve.reports["7.1"]["state"] == "prepared"
    serve.call("stop", attempt="7.1", reason="cancelled", grace_s=1.0)
    report = serve.ended("7.1")
    assert (report["outcome"], report.get("started_at_s")) == ("cancelled", None)


def test_the_wait_has_an_end_and_a_new_serve_knows_of_it(serve, start_serve, project):
    digest = serve.project(project(main__py=SAY))
    serve.launch(order("7.1", digest, "main.py", go_within_s=60), order("8.1", digest, "main.py", go_within_s=0.2))
    prepared(serve, "7.1")
    report = serve.ended("8.1")
    assert report["outcome"] == "lost"
    assert report["reason"] == "it was prepared, but not told to start within 0.2 s"
    serve.kill()
    later = start_serve()
    states = {report["attempt"]: report["state"] for report in later.call("reports")}
    assert states == {"7.1": "prepared", "8.1": "ended"}
    later.call("go", attempts=["7.1"])
    assert later.ended("7.1")["outcome"] == "done"
