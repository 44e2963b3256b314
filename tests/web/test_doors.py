"""The two doors: the address for browsers, where nobody is known at first, and the socket that knows who calls."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.request
from typing import Any

import pytest

from tests.web.conftest import Page
from tests.web.socket_http import ask_socket


def get(page: Page, path: str, **headers: str) -> tuple[int, Any, str]:
    """Ask the TCP address as nobody in particular."""
    return page.ask(path, headers)


def test_pages_answer_and_say_what_the_controller_knows(page: Page) -> None:
    for path in ("/", "/history", f"/jobs/{page.failed}", "/nodes/here", "/?fragment=1", "/metrics", "/healthz"):
        status, headers, _ = get(page, path)
        assert status == 200, path
        assert "default-src 'none'" in headers["Content-Security-Policy"], path


@pytest.mark.parametrize("path", ["/jobs/999999", "/jobs/x", "/jobs/-1", "/jobs/" + "9" * 40, "/nodes/none"])
def test_what_is_not_there_is_a_page_that_says_so(page: Page, path: str) -> None:
    status, _, text = get(page, path)
    assert status == 404
    assert "There is no" in text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/v1/jobs/999999", 404),
        ("/api/v1/jobs?state=nonsense", 400),
        ("/api/v1/jobs?limit=x", 400),
        ("/api/v1/nope", 404),
        ("/static/../server.py", 404),
        ("/nope", 404),
    ],
)
def test_a_bad_question_gets_one_sentence(page: Page, path: str, status: int) -> None:
    found, _, text = get(page, path)
    assert found == status
    assert "Traceback" not in text
    if path.startswith("/api/"):
        assert json.loads(text)["error"]
    else:
        assert "<h1>Not found</h1>" in text, "people get a page"


def test_nobody_in_particular_has_the_controller_look_through_its_store(page: Page) -> None:
    status, _, text = get(page, "/api/v1/doctor")
    assert status == 403
    assert "racksack doctor" in json.loads(text)["error"]
    assert page.site.ask("doctor")


def test_the_address_only_reads(page: Page) -> None:
    status, _, text = page.ask(f"/api/v1/jobs/{page.waiting}/cancel", {}, {}, "POST")
    assert (status, "racksack web login" in text) == (403, True)
    assert page.site.job(page.waiting)["state"] == "queued"


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://192.0.2.7"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "null"},
        {"Host": ""},
        {"Host": "["},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_foreign_names_are_refused(page: Page, headers: dict[str, str]) -> None:
    assert get(page, "/api/v1/status", **headers)[0] == 403
    over_the_socket = ask_socket(page, "GET", "/api/v1/status", headers)
    assert over_the_socket[0] == 403, "a forwarded socket is reached by every page that its user opens"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_our_own_names_are_answered(page: Page, host: str) -> None:
    port = page.netloc.rpartition(":")[2]
    assert get(page, "/api/v1/status", Host=f"{host}:{port}")[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer \xe9\xff-and-more-than-16"},
        {"Cookie": "racksack=\xff; \xe9"},
        {"Racksack-Proof": "\xff"},
        {"User-Agent": "\xff"},
        {"Origin": "http://["},
        {"Origin": "\xff"},
        {"Sec-Fetch-Site": "\xff"},
    ],
)
def test_no_header_is_a_fault_of_the_controller(page: Page, headers: dict[str, str]) -> None:
    for path in ("/", "/api/v1/jobs", "/api/v1/web/session"):
        assert get(page, path, **headers)[0] in (200, 403)
    assert page.ask("/api/v1/sweeps", headers, {}, "POST")[0] == 403
    assert page.ask("/?key=%ff%ed%a0%80", headers)[0] == 403


def test_metrics_count_what_is_there(page: Page) -> None:
    lines = get(page, "/metrics")[2].splitlines()
    values: dict[str, Any] = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert float(values['racksack_jobs{state="queued"}']) == 1
    assert float(values['racksack_node_capacity{node="here",resource="cpus"}']) == 8
    assert float(values['racksack_node_capacity{node="here",resource="gpus"}']) == 2
    assert float(values['racksack_node_state{node="here",state="drained"}']) == 1


def test_logs_are_served_as_text_that_no_browser_runs(page: Page) -> None:
    _, headers, text = get(page, f"/api/v1/jobs/{page.failed}/logs/stdout", Cookie=page.cookie)
    assert headers["Content-Type"].startswith("text/plain")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Racksack-Ended"] == "1"
    assert "<script>" in text


def test_news_arrive_on_the_event_stream(page: Page) -> None:
    with urllib.request.urlopen(f"{page.address}api/v1/events", timeout=30) as stream:
        stream.readline()
        page.site.cli("racksack", "hold", page.waiting)
        told = (json.loads(line[6:]) for line in stream if line.startswith(b"data: "))
        held = next(news for news in told if news["kind"] == "job")
        page.site.cli("racksack", "release", page.waiting)
    assert held == {"kind": "job", "id": page.waiting, "state": "held", "name": "'\"><b>&amp;"}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_promtool_finds_nothing_in_the_metrics(page: Page) -> None:
    """Names that tools take for something else, such as `_total` of what is no counter."""
    text = get(page, "/metrics")[2]
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
