"""Acting on the page: what a signed-in browser may do, to whose jobs, and what the story says of it."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest

from tests.end_to_end.projects import make
from tests.web.conftest import Page
from tests.web.test_sessions import proof

AS_OTHER = """\
import http.client, socket, sys
connection = http.client.HTTPConnection("localhost")
connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
connection.sock.connect(sys.argv[1])
connection.request("POST", sys.argv[2], sys.argv[3])
answer = connection.getresponse()
print(answer.status, answer.read().decode())
"""


def act(page: Page, body: object, path: str = "/api/v1/jobs/act") -> tuple[int, Any]:
    headers = {"Cookie": page.cookie, "Racksack-Proof": proof(page, page.cookie)}
    status, _, text = page.ask(path, headers, body, "POST")
    return status, json.loads(text)


def story(page: Page, job: int) -> str:
    return "\n".join(line["sentence"] for line in page.site.job(job)["events"])


def test_each_act_is_done_and_says_who_did_it(page: Page) -> None:
    job, me = page.waiting, page.site.job(page.waiting)["owner"]
    assert act(page, {"act": "hold", "ids": [job], "reason": "later"})[1]["done"] == 1
    assert page.site.job(job)["state"] == "held"
    assert act(page, {"act": "priority", "ids": [job], "priority": 7})[1]["done"] == 1
    assert page.site.job(job)["priority"] == 7
    assert act(page, {"act": "release", "ids": [job]})[1]["done"] == 1
    assert page.site.job(job)["state"] == "queued"
    assert act(page, {"act": "priority", "ids": [job], "priority": 0})[1]["done"] == 1
    told = story(page, job)
    for sentence in (f"held by {me}: later", f"its priority is 7 instead of 0 by {me}", f"released by {me}"):
        assert sentence in told


def test_what_cannot_be_done_is_said_of_each_job_and_done_to_the_others(page: Page) -> None:
    status, found = act(page, {"act": "hold", "ids": [page.failed, page.waiting, 987654, page.waiting]})
    assert (status, found["done"], found["refused"]) == (200, 1, 2)
    assert {one["id"] for one in found["why"]} == {page.failed, 987654}
    assert act(page, {"act": "release", "ids": [page.waiting]})[1]["done"] == 1
    status, found = act(page, {"act": "retry", "ids": [page.waiting]})
    assert (found["done"], found["refused"]) == (0, 1)
    assert "only a finished job" in found["why"][0]["sentence"]


@pytest.mark.parametrize(
    "body",
    [
        {"act": "eat", "ids": [1]},
        {"act": "hold", "ids": "1"},
        {"act": "hold", "ids": [True]},
        {"act": "hold", "ids": [10**30]},
        {"act": "hold", "ids": list(range(1, 20_000))},
        {"act": "hold", "arrays": [-1]},
        {"act": "priority", "ids": [1]},
        {"act": "priority", "ids": [1], "priority": 1001},
        {"act": "priority", "ids": [1], "priority": 1.5},
        {"act": "cancel", "ids": [1], "reason": ["x"]},
        [],
    ],
)
def test_a_bad_request_gets_one_sentence(page: Page, body: object) -> None:
    status, found = act(page, body)
    assert status == 400
    assert 10 < len(found["error"]) < 200


def test_an_array_is_held_released_and_cancelled_as_one(page: Page) -> None:
    project = make(page.site.work / "array", "print(1)\n")
    first = page.site.submit(project, "--array", "0-29", "--cpus", "1", "--ram", "100M")
    array = page.site.job(first)["array_id"]
    assert act(page, {"act": "hold", "arrays": [array]})[1]["done"] == 30
    assert act(page, {"act": "release", "arrays": [array]})[1]["done"] == 30
    assert act(page, {"act": "release", "arrays": [array]})[1]["done"] == 0
    assert act(page, {"act": "cancel", "arrays": [array], "reason": "no more"})[1]["done"] == 30
    assert page.site.job(first + 29)["state"] == "cancelled"


def test_a_job_runs_again_with_other_resources_as_a_new_job(page: Page) -> None:
    path = f"/api/v1/jobs/{page.failed}/resubmit"
    status, found = act(page, {"cpus": "2", "ram": "300M", "time_limit": "10m", "priority": 3}, path)
    assert status == 201
    new = page.site.job(found["id"])
    assert (new["cpus"], new["ram_bytes"], new["spec"]["time_limit_s"], new["priority"]) == (2, 300 * 2**20, 600, 3)
    assert new["spec"]["args"] == page.site.job(page.failed)["spec"]["args"]
    assert new["snapshot"] == page.site.job(page.failed)["snapshot"]
    act(page, {"act": "cancel", "ids": [found["id"]]})
    for wrong in ({"cpus": "many"}, {"ram": "8"}, {"gpus": "-1"}, {"time_limit": "soon"}, {"cpus": "9999"}):
        status, answer = act(page, wrong, path)
        assert status == 400, wrong
        assert "Traceback" not in answer["error"]
    assert act(page, {"cpus": "1"}, f"/api/v1/jobs/{page.waiting}/resubmit")[0] == 409


def test_acting_needs_the_proof_and_our_own_page(page: Page) -> None:
    body = {"act": "cancel", "ids": [page.waiting]}
    good = {"Cookie": page.cookie, "Racksack-Proof": proof(page, page.cookie)}
    cases: list[dict[str, str]] = [
        {},
        {"Cookie": page.cookie},
        {**good, "Racksack-Proof": "0" * 64},
        {**good, "Origin": "http://evil.example"},
        {**good, "Sec-Fetch-Site": "cross-site"},
        {**good, "Host": "evil.example"},
        {"Racksack-Proof": good["Racksack-Proof"]},
    ]
    for path in ("/api/v1/jobs/act", f"/api/v1/jobs/{page.failed}/resubmit"):
        for headers in cases:
            assert page.ask(path, headers, body, "POST")[0] == 403, headers
    assert page.site.job(page.waiting)["state"] == "queued"


def test_who_signed_out_acts_no_more(page: Page) -> None:
    cookie = page.sign_in()
    good = {"Cookie": cookie, "Racksack-Proof": proof(page, cookie)}
    assert page.ask("/api/v1/web/logout", good, {}, "POST")[0] == 200
    assert page.ask("/api/v1/jobs/act", good, {"act": "cancel", "ids": [page.waiting]}, "POST")[0] == 403
    assert page.site.job(page.waiting)["state"] == "queued"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be somebody else")
def test_nobody_acts_on_the_jobs_of_others(page: Page) -> None:
    socket = page.site.spool / "controller.sock"
    for folder in (page.site.root, page.site.home, page.site.spool):
        folder.chmod(folder.stat().st_mode | 0o011)
    socket.chmod(0o666)
    try:
        for verb, job in (("cancel", page.waiting), ("hold", page.waiting), ("priority", page.waiting), ("retry", 1)):
            body = json.dumps({"act": verb, "ids": [job], "priority": 5})
            found = _as_other(str(socket), "/api/v1/jobs/act", body)
            assert found[0] == "200"
            assert json.loads(found[1])["done"] == 0
            assert "belongs to" in json.loads(found[1])["why"][0]["sentence"]
        assert _as_other(str(socket), f"/api/v1/jobs/{page.failed}/resubmit", "{}")[0] == "403"
        assert _as_other(str(socket), "/api/v1/nodes/here/resume", "{}")[0] == "403"
        assert _as_other(str(socket), "/api/v1/scale", "{}")[0] == "403"
    finally:
        socket.chmod(0o600)
    assert page.site.job(page.waiting)["state"] == "queued"


def _as_other(socket: str, path: str, body: str) -> list[str]:
    done = subprocess.run(
        ["/usr/bin/python3", "-c", AS_OTHER, socket, path, body],
        capture_output=True,
        text=True,
        check=False,
        user=65534,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split(" ", 1)


def test_what_may_not_be_done_has_no_button(page: Page) -> None:
    text = page.ask(f"/jobs/{page.waiting}")[2]
    assert "data-act" not in text
    assert "not signed in" in text
    assert "data-act" not in page.ask("/nodes/here")[2]
    signed = page.ask(f"/jobs/{page.waiting}", {"Cookie": page.cookie})[2]
    assert 'data-act="cancel"' in signed
