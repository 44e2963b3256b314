"""The two doors: the read-only address for browsers, and the socket that knows who calls."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.web.conftest import Page


def get(page: Page, path: str, **headers: str) -> tuple[int, dict[str, str], str]:
    """Ask the read-only address."""
    request = urllib.request.Request(page.address.rstrip("/") + path, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, dict(answer.headers), answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read().decode()


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
    ],
)
def test_a_bad_question_gets_one_sentence(page: Page, path: str, status: int) -> None:
    found, _, text = get(page, path)
    assert found == status
    assert "Traceback" not in text
    if path.startswith("/api/"):
        assert json.loads(text)["error"]


def test_nobody_in_particular_has_the_controller_look_through_its_store(page: Page) -> None:
    status, _, text = get(page, "/api/v1/doctor")
    assert status == 403
    assert "racksack doctor" in json.loads(text)["error"]
    assert page.site.ask("doctor")


def test_the_address_only_reads(page: Page) -> None:
    request = urllib.request.Request(f"{page.address}api/v1/jobs/{page.waiting}/cancel", data=b"{}", method="POST")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=20)
    assert refused.value.code == 403
    assert page.site.job(page.waiting)["state"] == "queued"


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Host": ""}]
)
def test_foreign_names_are_refused(page: Page, headers: dict[str, str]) -> None:
    assert get(page, "/api/v1/status", **headers)[0] == 403


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_our_own_names_are_answered(page: Page, host: str) -> None:
    port = page.netloc.rpartition(":")[2]
    assert get(page, "/api/v1/status", Host=f"{host}:{port}")[0] == 200


def test_metrics_count_what_is_there(page: Page) -> None:
    lines = get(page, "/metrics")[2].splitlines()
    values: dict[str, Any] = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert float(values['racksack_jobs{state="queued"}']) == 1
    assert float(values['racksack_node_total{node="here",resource="cpus"}']) == 8
    assert float(values['racksack_node_total{node="here",resource="gpus"}']) == 2
    assert float(values['racksack_node_up{node="here",state="drained"}']) == 1


def test_logs_are_served_as_text_that_no_browser_runs(page: Page) -> None:
    _, headers, text = get(page, f"/api/v1/jobs/{page.failed}/logs/stdout")
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
