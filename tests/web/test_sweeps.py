"""Sweeps as their users meet them: the commands, HTTP with and without a token, and the page in a real browser."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
import shutil
import socket
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

from tests.end_to_end.site import Site, until

CONFIG = """\
web: {{listen: "127.0.0.1:{port}", token_file: {tokens}}}
watch: {{settle: 1s, rescan: 2s}}
nodes:
  here: {{local: {{}}, cpus: 4, ram: 8G}}
"""
TOKEN = "0123456789abcdef-of-a-test"
HOSTILE = "<script>document.title='owned'</script>"
CODE = f"""\
import os, time

def evaluate(a, b, kind, part="main"):
    if a == 4 and b == 2 and not os.path.exists(os.environ["LUCK"]):
        raise ValueError({HOSTILE!r})
    return {{"score": a * 10 + b + (5 if part == "control" else 0), "cost": a / b, {HOSTILE!r}: 1}}

def slow(a):
    time.sleep(0.2)
    return a

def gated(a):
    while not os.path.exists(os.environ["GO"]):
        time.sleep(0.02)
    return a
"""
QUIET = ["--no-sandbox", "--disable-quic", "--disable-background-networking", "--disable-component-update"]


class Sweeps:
    """A site on which a sweep has run, some of its points in vain."""

    def __init__(self, site: Site, address: str) -> None:
        self.site, self.address = site, address
        self.project = site.work / "sweep"
        self.project.mkdir()
        (self.project / "f.py").write_text(CODE)
        self.luck = site.work / "luck"
        self.number = self.run(
            "f.py:evaluate", "-p", "a=1:5:1", "-p", "b=1,2,4", "-p", f"kind=x,{HOSTILE}", "--where", "b <= a",
            "-m", "score:max", "-m", "cost:min", "--retries", "0", "--control", "3", "--control-arg", "part=control",
            "-n", HOSTILE, "-e", f"LUCK={self.luck}", "--cpus", "2",
        )  # fmt: skip
        self.ended(self.number)

    def run(self, *argv: object) -> int:
        done = self.site.cli("racksack", "sweep", "run", self.project, *argv, "--no-venv", "-y", "--json")
        return int(json.loads(done.stdout)["id"])

    def ended(self, number: int) -> Any:
        return until(
            lambda: (view := self.view(number))["state"] in ("done", "failed", "cancelled") and view, "it ends"
        )

    def view(self, number: int) -> Any:
        return json.loads(self.site.cli("racksack", "sweep", "status", number, "--json").stdout)

    def http(self, path: str, body: Any = None, token: str | None = None) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.address}{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                text = answer.read().decode()
                return answer.status, json.loads(text) if path.startswith("api/") and "csv" not in path else text
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sweeps]:
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    tokens.write_text(f"# by user\n{TOKEN}\nnobody-here another-token-of-a-test\n")
    tokens.chmod(0o600)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    site = Site(CONFIG.format(port=port, tokens=tokens))
    try:
        site.start()
        yield Sweeps(site, f"http://127.0.0.1:{port}/")
    finally:
        site.close()


def test_the_commands_tell_what_came_of_it(sweeps: Sweeps) -> None:
    cli, number = sweeps.site.cli, sweeps.number
    view = sweeps.view(number)
    assert (view["points_total"], view["main_failed"], view["done"]) == (26 - 4, 2, 3)
    rows = list(csv.reader(io.StringIO(cli("racksack", "sweep", "top", number, "-n", 4, "--csv").stdout)))
    assert rows[0][:6] == ["rank", "point", "a", "b", "kind", "score"]
    assert [row[2:4] for row in rows[1:]] == [["5", "4"], ["5", "4"], ["5", "2"], ["5", "2"]]
    assert rows[1][rows[0].index("control score")] == "59"
    assert rows[4][rows[0].index("control score")] == ""
    top = cli("racksack", "sweep", "top", "last", "--by", "score / cost", "-n", 1, "--json")
    assert json.loads(top.stdout)["rows"][0]["params"]["b"] == 4
    wrong = cli("racksack", "sweep", "top", number, "--by", "scroe", code=2)
    assert "did you mean score?" in wrong.stderr
    table = cli("racksack", "sweep", "status").stdout
    assert HOSTILE[:20] in table
    assert f"{number} " in cli("racksack", "status").stdout, "a sweep is one line among jobs"
    assert len(json.loads(cli("racksack", "status", "--json").stdout)["jobs"]) == 1, "and its runners are none"


def test_failed_points_are_shown_and_exactly_they_run_again(sweeps: Sweeps) -> None:
    cli, project = sweeps.site.cli, sweeps.project
    number = sweeps.run(
        "f.py:evaluate", "-p", "a=3:4:1", "-p", "b=1,2", "-p", "kind=x", "--retries", "0", "-e", f"LUCK={sweeps.luck}2",
        "-m", "score",
    )  # fmt: skip
    sweeps.ended(number)
    [failed] = json.loads(cli("racksack", "sweep", "points", number, "--failed", "--json").stdout)
    assert failed["params"] == {"a": 4, "b": 2, "kind": "x"}
    assert failed["kind"] == "error"
    Path(f"{sweeps.luck}2").touch()
    assert "1 points run again" in cli("racksack", "sweep", "retry", number, "--failed").stdout
    assert sweeps.ended(number)["failed"] == 0
    cli("racksack", "sweep", "retry", number, code=5)
    again = sweeps.run("f.py:evaluate", "-p", "a=3:5:1", "-p", "b=1,2", "-p", "kind=x", "-e", f"LUCK={sweeps.luck}2",
                       "-m", "score")  # fmt: skip
    assert sweeps.ended(again)["reused"] == 4, "what an earlier sweep of the same code has computed is taken over"
    assert "did you mean" in cli("racksack", "sweep", "run", project, "f.py:evaluate", "-p", "a=1:2:1", "--where",
                                 "aa > 1", "-y", code=2).stderr  # fmt: skip


def test_results_are_fetched_and_exported(sweeps: Sweeps, tmp_path: Path) -> None:
    cli, number = sweeps.site.cli, sweeps.number
    fetched = cli("racksack", "fetch", number, "-o", tmp_path / "results").stdout
    assert f"{number} " in fetched
    [folder] = (tmp_path / "results").iterdir()
    assert {"results.csv", "control.csv", "best.json", "summary.json"} <= {path.name for path in folder.iterdir()}
    for kind in ("csv", "json", "jsonl", "parquet", "db"):
        cli("racksack", "sweep", "export", number, "-o", tmp_path / f"all.{kind}")
    assert len((tmp_path / "all.csv").read_text().splitlines()) == 23
    assert len(json.loads((tmp_path / "all.json").read_text())) == 22
    with contextlib.closing(sqlite3.connect(tmp_path / "all.db")) as points:
        rows = points.execute(
            "SELECT point, a, kind FROM points WHERE failure IS NULL ORDER BY score DESC, point"
        ).fetchall()
    assert [row[0] for row in rows] == [
        row["point"] for row in sweeps.site.ask(f"sweeps/{number}/results?n=99")["rows"]
    ]
    assert {row[2] for row in rows} == {"x", HOSTILE}
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(tmp_path / "all.parquet")
    assert table.num_rows == 22
    assert set(table.column("kind").to_pylist()) == {"x", HOSTILE}


def test_the_report_is_one_page_with_everything_escaped(sweeps: Sweeps, tmp_path: Path) -> None:
    cli, number = sweeps.site.cli, sweeps.number
    cli("racksack", "sweep", "report", number, "-o", tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert not re.search(r"\s(src|href)=", text), "nothing is loaded from elsewhere"
    for heading in ("What was tried", "How sure the best is", "The best", "Pareto front", "Plots"):
        assert f"<h2>{heading}" in text
    front = json.loads(cli("racksack", "sweep", "top", number, "--pareto", "--json").stdout)["rows"]
    rows = sweeps.site.ask(f"sweeps/{number}/results?n=99")["rows"]
    values = [(row["metrics"]["score"], -row["metrics"]["cost"]) for row in rows]
    best = {one for one in values if not any(o != one and o[0] >= one[0] and o[1] >= one[1] for o in values)}
    assert {(row["metrics"]["score"], -row["metrics"]["cost"]) for row in front} == best


def test_stop_resume_and_cancel(sweeps: Sweeps) -> None:
    cli = sweeps.site.cli
    number = sweeps.run("f.py:slow", "-p", "a=1:400:1", "--cpus", "2")
    until(lambda: sweeps.view(number)["done"], "points are done")
    cli("racksack", "sweep", "stop", number, "--reason", "lunch")
    stopped = sweeps.view(number)
    assert (stopped["state"], stopped["reason"].endswith("lunch")) == ("stopped", True)
    cli("racksack", "sweep", "wait", number, "-q")  # a stopped sweep is not waited for
    cli("racksack", "release", number)
    assert sweeps.view(number)["state"] == "running"
    cli("racksack", "cancel", number)
    assert sweeps.ended(number)["state"] == "cancelled"
    cli("racksack", "wait", number, code=13)


def test_http_with_a_token(sweeps: Sweeps) -> None:
    body = {
        "like": sweeps.number, "name": "by http", "environment": "none", "env": {"LUCK": str(sweeps.project)},
        "parameters": [{"name": "a", "min_value": 1, "max_value": 30, "step": 1}, {"name": "b", "values": [1, 2]},
                       {"name": "kind", "values": ["x"]}],
        "optimization_type": "random", "max_iterations": 12, "metric": "score:max",
    }  # fmt: skip
    status, told = sweeps.http("api/v1/sweeps", body)
    assert (status, "Authorization: Bearer TOKEN" in told["error"]) == (403, True)
    assert sweeps.http("api/v1/sweeps", body, "wrong-token-of-a-test")[0] == 403
    assert sweeps.http("api/v1/sweeps", body, "another-token-of-a-test")[0] == 403, "nobody of that name is here"
    status, view = sweeps.http("api/v1/sweeps", body, TOKEN)
    assert (status, view["points"], view["target"]) == (201, 12, "f.py:evaluate")
    sweeps.ended(view["id"])
    path = f"api/v1/sweeps/{view['id']}"
    assert sweeps.http(path)[1]["percent"] == 100.0
    assert sweeps.http(f"{path}/results")[0] == sweeps.http(f"{path}/points?failed=1")[0] == 403
    best = sweeps.http(f"{path}/results?n=12", token=TOKEN)[1]
    assert len({json.dumps(row["params"]) for row in best["rows"]}) == 12, "random points do not repeat"
    assert sweeps.http(f"{path}/points?failed=1", token=TOKEN)[1] == []
    assert sweeps.http(f"{path}/results?all=1&format=csv", token=TOKEN)[1].count("\n") == 13
    for wrong in (
        {"like": sweeps.number, "parameters": [{"name": "a", "min_value": "1"}]},
        {"like": 10**9},
        {"bogus": 1},
        [],
    ):
        status, answer = sweeps.http("api/v1/sweeps", wrong, TOKEN)
        assert status in (400, 404), answer
        assert answer["error"]
    for elsewhere in (f"api/v1/jobs/{sweeps.number}/cancel", "api/v1/controller/stop", "api/v1/nodes/here/drain"):
        assert sweeps.http(elsewhere, {}, TOKEN)[0] == 403, "a token is for sweeps alone"


def test_bad_questions_get_one_sentence(sweeps: Sweeps) -> None:
    for path, status in {
        "api/v1/sweeps/999999": 404, "api/v1/sweeps/x": 404, "api/v1/sweeps?state=odd": 400,
        f"api/v1/sweeps/{sweeps.number}/results?by=import%20os": 400, f"api/v1/sweeps/{sweeps.number}/results?n=x": 400,
        f"api/v1/sweeps/{sweeps.number}/points?point=99999": 404,
    }.items():  # fmt: skip
        found, answer = sweeps.http(path, token=TOKEN)
        assert found == status, path
        assert "\n" not in answer["error"]


def test_failures_of_the_main_run_are_retried_after_a_control_run(sweeps: Sweeps) -> None:
    number = sweeps.run(
        "f.py:evaluate", "-p", "a=2:4:1", "-p", "b=1,2", "-p", "kind=x", "--retries", "0", "-e", f"LUCK={sweeps.luck}3",
        "-m", "score", "--control", "1", "--control-arg", "part=control",
    )  # fmt: skip
    view = sweeps.ended(number)
    assert (view["run"], view["main_failed"], view["done"]) == ("control", 1, 1)
    Path(f"{sweeps.luck}3").touch()
    assert "1 points run again" in sweeps.site.cli("racksack", "sweep", "retry", number).stdout
    view = sweeps.ended(number)
    assert (view["run"], view["main_failed"], view["done"]) == ("control", 0, 1)
    rows = json.loads(sweeps.site.cli("racksack", "sweep", "top", number, "--json").stdout)["rows"]
    assert len(rows) == 6
    assert [row["control"]["score"] if row["control"] else None for row in rows] == [47, *[None] * 5]


def test_status_says_what_lies_in_the_memory_of_a_node(sweeps: Sweeps) -> None:
    go = sweeps.site.work / "go"
    number = sweeps.run(
        "f.py:gated", "-p", "a=1001:1040:1", "--cpus", "2", "--ramdisk", "f.py", "-e", f"GO={go}"
    )  # fmt: skip

    def told() -> str:
        return str(sweeps.site.cli("racksack", "sweep", "status", number).stdout)

    until(lambda: "in RAM, checked (" in told(), "the runner has told it")
    [node] = sweeps.view(number)["nodes"]
    assert (node["ram"]["state"], node["ram"]["bytes"]) == ("checked", len(CODE))
    go.touch()
    assert sweeps.ended(number)["state"] == "done"
    assert "RAM DISK" not in told()


@pytest.mark.browser
def test_the_page_in_a_browser(sweeps: Sweeps) -> None:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*QUIET, "--disable-sync"])
        tab = browser.new_page()
        complaints: list[str] = []
        tab.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
        tab.goto(f"{sweeps.address}sweeps/{sweeps.number}", wait_until="load")
        assert tab.locator("svg.plot").count() == 0, "points are for their owner"
        tab.goto(sweeps.site.cli("racksack", "web").stdout.strip(), wait_until="load")
        tab.goto(f"{sweeps.address}sweeps", wait_until="load")
        tab.get_by_role("link", name=str(sweeps.number), exact=True).first.click()
        tab.wait_for_selector("svg[aria-label='score against a']")
        assert "owned" not in tab.title()
        assert tab.locator("main script").count() == 0
        assert tab.locator("circle.dot.good").count() > 0
        assert tab.locator("rect.heat").count() > 0
        assert tab.locator("polyline.line").count() > 0
        assert HOSTILE in tab.locator("table", has_text="Why").inner_text(), "why a point failed is text"
        tab.goto(f"{sweeps.address}sweeps/{sweeps.number}?by=score%2Fcost&x=b&y=kind", wait_until="load")
        assert "by score/cost" in tab.locator("#best").inner_text()
        tab.goto(f"{sweeps.address}sweeps/{sweeps.number}?by=1%2B", wait_until="load")
        assert "is not an expression" in tab.locator(".problem").inner_text()
        number = sweeps.run("f.py:slow", "-p", "a=1:60:1", "--cpus", "2", "--ramdisk", "f.py")
        tab.goto(f"{sweeps.address}sweeps/{number}", wait_until="load")
        tab.wait_for_selector("td:has-text('in RAM, checked')", timeout=30_000)
        tab.wait_for_selector("h2 .state.done", timeout=60_000)  # the page follows by itself
        assert tab.locator("p.lead").inner_text().startswith("60 of 60 points")
        assert complaints == []
        plain = browser.new_context(java_script_enabled=False).new_page()
        plain.goto(sweeps.site.cli("racksack", "web").stdout.strip(), wait_until="load")
        plain.goto(f"{sweeps.address}jobs/{number}", wait_until="load")
        assert plain.locator("svg[aria-label='value against a']").count() == 1, "also without JavaScript"
        browser.close()
