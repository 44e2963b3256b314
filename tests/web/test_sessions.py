"""Signing in at the page: what a link, a cookie and a proof open, and what they do not."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from racksack_controller.store import Store
from racksack_controller.web.sessions import IDLE_S, LINK_S, LONGEST_S, PER_USER_MAX, Sessions
from tests.web.conftest import HOSTILE, Page
from tests.web.socket_http import ask_socket


def proof(page: Page, cookie: str) -> str:
    status, _, text = page.ask("/api/v1/web/session", {"Cookie": cookie})
    assert status == 200
    return str(json.loads(text)["proof"])


def act(page: Page, path: str, **headers: str) -> tuple[int, str]:
    status, _, text = page.ask(path, {key.replace("_", "-"): value for key, value in headers.items()}, {}, "POST")
    return status, text


def test_without_a_session_nobody_sees_what_a_job_was_given_or_wrote(page: Page) -> None:
    for path in (f"/jobs/{page.failed}", f"/api/v1/jobs/{page.failed}"):
        text = page.ask(path)[2]
        assert "onerror" not in json.loads(text)["spec"]["args"] if path.startswith("/api") else True
        assert "line 299" not in text
    assert json.loads(page.ask(f"/api/v1/jobs/{page.failed}")[2])["spec"]["env"] == {}
    assert json.loads(page.ask(f"/api/v1/jobs/{page.failed}")[2])["spec"]["args"] == []
    assert page.ask(f"/api/v1/jobs/{page.failed}/logs/stdout")[0] == 403
    assert page.ask(f"/api/v1/jobs/{page.failed}/logs/stdout?attempt=1")[0] == 403
    assert page.ask(f"/api/v1/jobs/{page.failed}/attach")[0] == 403
    signed = page.ask(f"/jobs/{page.failed}", {"Cookie": page.cookie})[2]
    assert "line 299" in signed
    assert json.loads(page.ask(f"/api/v1/jobs/{page.failed}", {"Cookie": page.cookie})[2])["spec"]["args"] == [HOSTILE]


def test_a_link_works_once_and_leaves_no_key_behind(page: Page) -> None:
    link = page.link()
    status, headers, _ = page.ask(link)
    assert (status, headers["Location"]) == (303, "/")
    cookie = headers["Set-Cookie"]
    assert all(part in cookie for part in ("HttpOnly", "SameSite=Strict", "Path=/"))
    assert link.partition("key=")[2] not in cookie
    status, headers, text = page.ask(link)
    assert (status, headers["Set-Cookie"]) == (403, None)
    assert "racksack web login" in text
    assert page.ask(page.address + "?key=made-up")[0] == 403
    assert page.ask(link, {"Cookie": page.cookie})[0] == 303, "who is signed in already goes on to the page"


def test_a_link_used_by_two_at_once_signs_one_in(page: Page) -> None:
    link = page.link()
    with ThreadPoolExecutor(8) as pool:
        cookies = list(pool.map(lambda _: page.sign_in(link), range(8)))
    assert len([cookie for cookie in cookies if cookie]) == 1


def test_a_browser_that_looks_ahead_and_a_foreign_page_use_no_link_up(page: Page) -> None:
    link = page.link()
    assert page.ask(link, {"Sec-Purpose": "prefetch;prerender"})[0] == 204
    status, headers, _ = page.ask(
        link, {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    )
    assert (status, headers["Set-Cookie"]) == (403, None)
    assert page.ask(link, method="HEAD")[1]["Set-Cookie"] is None
    assert page.sign_in(link)


def test_a_cookie_that_was_there_before_is_never_taken_over(page: Page) -> None:
    name = page.cookie.partition("=")[0]
    planted = f"{name}=chosen-by-somebody-else"
    fresh = page.sign_in(page.link(), Cookie=planted)
    assert fresh.startswith(f"{name}=")
    assert fresh != planted
    assert page.ask(f"/api/v1/jobs/{page.failed}/logs/stdout", {"Cookie": planted})[0] == 403
    again = page.sign_in(page.link(), Cookie=fresh)
    assert page.ask("/api/v1/web/sessions", {"Cookie": fresh})[0] == 403, "signing in again ends the session before"
    assert page.ask("/api/v1/web/sessions", {"Cookie": again})[0] == 200


def test_a_change_needs_the_proof_of_its_own_session(page: Page) -> None:
    hold, release = f"/api/v1/jobs/{page.waiting}/hold", f"/api/v1/jobs/{page.waiting}/release"
    other = page.sign_in()
    assert act(page, hold, Cookie=page.cookie)[0] == 403
    assert act(page, hold, Cookie=page.cookie, Racksack_Proof="")[0] == 403
    assert act(page, hold, Cookie=page.cookie, Racksack_Proof="é")[0] == 403
    assert act(page, hold, Cookie=page.cookie, Racksack_Proof=proof(page, other))[0] == 403
    assert act(page, hold, Racksack_Proof=proof(page, page.cookie))[0] == 403
    good = {"Cookie": page.cookie, "Racksack_Proof": proof(page, page.cookie)}
    assert act(page, hold, Origin="http://evil.example", **good)[0] == 403
    assert page.site.job(page.waiting)["state"] == "queued"
    assert act(page, hold, Origin=page.address.rstrip("/"), **good)[0] == 200
    assert page.site.job(page.waiting)["state"] == "held"
    assert act(page, release, **good)[0] == 200


def test_nothing_can_be_done_with_a_cookie_after_its_owner_signed_out(page: Page) -> None:
    cookie = page.sign_in()
    good = {"Cookie": cookie, "Racksack_Proof": proof(page, cookie)}
    assert act(page, "/api/v1/web/logout", **good) == (200, '{"ended": 1}')
    assert act(page, f"/api/v1/jobs/{page.waiting}/hold", **good)[0] == 403
    assert page.ask(f"/api/v1/jobs/{page.failed}/logs/stdout", {"Cookie": cookie})[0] == 403
    elsewhere = page.sign_in()
    assert "signed out" in page.site.cli("racksack", "web", "logout").stdout
    assert page.ask("/api/v1/web/sessions", {"Cookie": elsewhere})[0] == 403
    page.cookie = page.sign_in()
    assert "Python-urllib" in page.site.cli("racksack", "web", "sessions").stdout


def test_no_session_makes_a_link(page: Page) -> None:
    good = {"Cookie": page.cookie, "Racksack_Proof": proof(page, page.cookie)}
    assert act(page, "/api/v1/web/login", **good)[0] == 403, "a stolen cookie does not prolong itself"


def test_a_browser_on_the_forwarded_socket_needs_the_proof_too(page: Page) -> None:
    browser = {"Host": "localhost:8470", "Origin": "http://localhost:8470", "Sec-Fetch-Site": "same-origin"}
    hold = f"/api/v1/jobs/{page.waiting}/hold"
    for headers in (browser, {"User-Agent": "Mozilla/5.0"}, {"Cookie": "a=b"}, {"Referer": "http://localhost:8470/"}):
        assert ask_socket(page, "POST", hold, headers)[0] == 403
    assert ask_socket(page, "POST", hold, {**browser, "Host": "evil.example:8470"})[0] == 403
    assert page.site.job(page.waiting)["state"] == "queued"
    told = json.loads(ask_socket(page, "GET", "/api/v1/web/session", browser)[1])
    assert ask_socket(page, "POST", hold, {**browser, "Racksack-Proof": told["proof"]})[0] == 200
    page.site.cli("racksack", "release", page.waiting)
    assert "line 299" in ask_socket(page, "GET", f"/jobs/{page.failed}", browser)[1], "its owner is known there"
    assert ask_socket(page, "GET", "/?key=anything", browser)[0] == 303


def test_no_page_may_be_framed_or_read_by_another_site(page: Page) -> None:
    headers = page.ask("/")[1]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Access-Control-Allow-Origin"] is None
    assert headers["Cache-Control"] == "no-store"


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


async def test_sessions_end_by_themselves_and_survive_a_restart(tmp_path: Path) -> None:
    clock, store = Clock(), Store(tmp_path / "store.db")
    sessions = Sessions(store, None, clock)
    await sessions.open()
    late, _until = sessions.new_key(0)
    clock.now += LINK_S
    assert await sessions.exchange(late, "", None) is None
    token = await sessions.exchange(sessions.new_key(0)[0], "x" * 5000, None)
    assert token is not None
    session = sessions.of(token)
    assert session is not None
    assert len(session.browser) < 200
    clock.now += IDLE_S - 1
    await sessions.used(session)
    again = Sessions(store, None, clock)
    await again.open()
    clock.now += IDLE_S - 1
    assert again.of(token) is not None
    clock.now += 1
    assert again.of(token) is None
    kept = sessions.of(await sessions.exchange(sessions.new_key(0)[0], "", None))
    assert kept is not None
    for _ in range(int(LONGEST_S // IDLE_S) + 1):
        clock.now += IDLE_S - 1
        await sessions.used(kept)
    assert kept.ends_at_s < clock.now, "however much it is used"
    store.close()


async def test_nobody_fills_the_controller_with_sessions_or_links(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db")
    sessions = Sessions(store, None)
    keys = [sessions.new_key(0)[0] for _ in range(100)]
    tokens = [await sessions.exchange(key, "", None) for key in keys]
    assert tokens[0] is None
    for _ in range(2 * PER_USER_MAX):
        await sessions.exchange(sessions.new_key(0)[0], "", None)
    assert len(sessions.of_user(0)) == PER_USER_MAX
    rows = await store.read(lambda connection: connection.execute("SELECT * FROM web_sessions").fetchall())
    assert len(rows) == PER_USER_MAX
    assert not any(token and token in str(rows) for token in tokens), "only hashes are kept"
    store.close()


async def test_who_may_not_use_the_socket_is_signed_out(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db")
    for group in (None, "a-group-that-nobody-made"):
        sessions = Sessions(store, group)
        assert await sessions.exchange(sessions.new_key(65534)[0], "", None) is None
    store.close()
