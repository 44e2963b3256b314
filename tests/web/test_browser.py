"""The page in a real browser: nothing that a user named or printed is markup, and it follows what happens."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Browser, sync_playwright
from playwright.sync_api import Page as Tab

from tests.end_to_end.site import until
from tests.web.conftest import HOSTILE, Page

pytestmark = pytest.mark.browser
QUIET = ["--no-sandbox", "--disable-quic", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium without a screen."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*QUIET, "--disable-sync"])
        yield browser
        browser.close()


@pytest.fixture
def tab(browser: Browser, page: Page) -> Iterator[Tab]:
    """A tab of a browser in which the user is signed in; it collects what the page complains about."""
    tab = browser.new_page()
    tab.goto(page.link(), wait_until="load")
    assert tab.url == page.address, "the key leaves the address bar"
    tab.complaints = []  # type: ignore[attr-defined]
    tab.on("pageerror", lambda error: tab.complaints.append(str(error)))  # type: ignore[attr-defined]
    tab.on("console", lambda line: tab.complaints.append(line.text) if line.type == "error" else None)  # type: ignore[attr-defined]
    yield tab
    tab.close()


@pytest.mark.parametrize("path", ["", "history", "energy", "jobs/{failed}", "jobs/{waiting}", "nodes/here"])
def test_what_users_wrote_is_text(page: Page, tab: Tab, path: str) -> None:
    tab.goto(page.address + path.format(failed=page.failed, waiting=page.waiting), wait_until="load")
    assert tab.locator("main img").count() == 0
    assert tab.locator("main script").count() == 0
    assert tab.locator("main b").count() == 0
    assert "owned" not in tab.title()
    assert tab.complaints == []  # type: ignore[attr-defined]


def test_the_job_page_shows_log_and_reason_literally(page: Page, tab: Tab) -> None:
    tab.goto(f"{page.address}jobs/{page.failed}", wait_until="load")
    assert tab.locator("pre.log").first.inner_text().strip() == HOSTILE
    assert tab.locator("dt", has_text="Exit code").count() == 1
    tab.goto(f"{page.address}jobs/{page.waiting}", wait_until="load")
    assert "drained" in tab.locator("p.lead").inner_text()


def test_the_page_follows_without_a_reload(page: Page, tab: Tab) -> None:
    tab.goto(page.address, wait_until="load")
    row = tab.locator("section[aria-labelledby=queue] tbody tr").first
    assert "queued" in row.inner_text()
    page.site.cli("racksack", "hold", page.waiting)
    try:
        tab.locator("section[aria-labelledby=queue] .state.held").wait_for(timeout=15_000)
    finally:
        page.site.cli("racksack", "release", page.waiting)
    assert tab.locator("#live").get_attribute("class") == "live on"


def test_it_works_without_javascript(page: Page, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(page.address, wait_until="load")
    assert tab.locator("article.node").count() == 1
    assert tab.locator("meta[http-equiv=refresh]").count() == 1
    tab.get_by_role("link", name=str(page.failed), exact=True).first.click()
    assert f"Job {page.failed}" in tab.locator("h2").first.inner_text()
    context.close()


def test_narrow_screens_do_not_scroll_sideways(page: Page, browser: Browser) -> None:
    tab = browser.new_page(viewport={"width": 390, "height": 800})
    tab.goto(page.address, wait_until="load")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    tab.close()


def test_the_queue_counts_what_it_shows(page: Page, tab: Tab) -> None:
    tab.goto(page.address, wait_until="load")
    queue = tab.locator("section[aria-labelledby=queue]")
    assert queue.locator(".count").inner_text() == str(queue.locator("tbody tr").count())


def test_a_log_is_shown_at_its_end_and_stays_where_its_reader_went(page: Page, tab: Tab) -> None:
    tab.goto(f"{page.address}jobs/{page.failed}", wait_until="load")
    log = "document.querySelectorAll('pre.log')[1]"  # stderr, 300 lines
    until(lambda: tab.evaluate(f"{log}.scrollTop > 1000"), f"{log}.scrollTop > 1000")
    assert tab.evaluate(f"{log}.scrollTop + {log}.clientHeight >= {log}.scrollHeight - 4")
    tab.evaluate(f"{log}.scrollTop = 100")
    with tab.expect_response(lambda answer: "fragment=1" in answer.url, timeout=30_000):
        page.site.cli("racksack", "hold", page.waiting)  # news: the page asks for its content again
    page.site.cli("racksack", "release", page.waiting)
    assert tab.evaluate(f"{log}.scrollTop") == 100


def test_what_the_reader_selected_and_unfolded_survives_news(page: Page, tab: Tab) -> None:
    tab.goto(page.address, wait_until="load")
    row = f"document.getElementById('job-{page.waiting}')"
    tab.evaluate(f"{row}.mark = 1; getSelection().selectAllChildren({row}.querySelector('.name'))")
    selected = tab.evaluate("getSelection().toString()")
    assert selected
    page.site.cli("racksack", "hold", page.waiting)
    try:
        tab.locator(f"#job-{page.waiting} .state.held").wait_for(timeout=15_000)
    finally:
        page.site.cli("racksack", "release", page.waiting)
    assert tab.evaluate(f"{row}.mark") == 1, "the row was changed, not replaced"
    assert tab.evaluate("getSelection().toString()") == selected


def test_times_are_those_of_the_reader(page: Page, browser: Browser) -> None:
    context = browser.new_context(timezone_id="Asia/Kathmandu")
    tab = context.new_page()
    tab.goto(f"{page.address}jobs/{page.failed}", wait_until="load")
    one = tab.locator("dl.facts time[data-at]").first
    at_s = float(one.get_attribute("data-at") or "")
    there = datetime.fromtimestamp(at_s, ZoneInfo("Asia/Kathmandu"))
    assert one.inner_text() == there.strftime("%Y-%m-%d %H:%M:%S")
    context.close()


def test_what_has_not_changed_is_not_sent_again(page: Page) -> None:
    path = f"/jobs/{page.failed}?fragment=1"
    status, headers, text = page.ask(path)
    assert (status, "<main" in text) == (200, False)
    assert page.ask(path, {"If-None-Match": headers["ETag"]})[0] == 304
    assert page.ask(path, {"If-None-Match": '"0"'})[0] == 200


def test_scripts_and_styles_are_kept_by_the_browser_under_their_version(page: Page) -> None:
    found = re.findall(r'(?:src|href)="(/static/[^"]+)"', page.ask("/")[2])
    assert {"style.css", "live.js", "acting.js"} <= {path.split("/")[2].partition("?")[0] for path in found}
    for path in found:
        status, headers, _ = page.ask(path)
        assert (status, "immutable" in headers["Cache-Control"]) == (200, True)
        assert page.ask(path.partition("?")[0])[1]["Cache-Control"] == "no-cache"
    assert page.ask("/static/idiomorph.LICENSE")[0] == 404
    assert page.ask("/static/..%2fpages.py")[0] == 404


def test_a_controller_that_does_not_answer_is_said_and_the_page_goes_on_by_itself(page: Page, browser: Browser) -> None:
    context = browser.new_context()
    tab = context.new_page()
    tab.goto(page.address, wait_until="load")
    tab.locator("#live.on").wait_for(timeout=15_000)
    context.set_offline(True)
    tab.evaluate("racksack.refresh()")
    tab.locator("#lost").wait_for(timeout=30_000)
    assert "does not answer" in tab.locator("#lost").inner_text()
    assert tab.locator("article.node").count() == 1, "what was known stays"
    context.set_offline(False)
    tab.locator("#lost").wait_for(state="hidden", timeout=30_000)
    context.close()


def test_a_job_is_held_and_released_by_its_buttons(page: Page, tab: Tab) -> None:
    tab.goto(f"{page.address}jobs/{page.waiting}", wait_until="load")
    for verb, state in (("hold", "held"), ("release", "queued")):
        tab.locator(f"button[data-act={verb}]").click()
        assert f"Job {page.waiting}" in tab.locator("#ask .says").inner_text()
        assert page.site.job(page.waiting)["state"] != state, "nothing is done before the answer"
        tab.locator("#ask button.go").click()
        tab.locator(f"h2 .state.{state}").wait_for(timeout=15_000)
    assert tab.complaints == []  # type: ignore[attr-defined]


def test_selected_rows_are_held_and_a_refusal_is_shown(page: Page, tab: Tab) -> None:
    tab.goto(page.address, wait_until="load")
    assert tab.locator("button[data-picked=hold]").is_disabled()
    tab.get_by_label(f"Select job {page.waiting}").check()
    tab.locator("button[data-picked=release]").click()
    assert "1 job" in tab.locator("#ask .says").inner_text()
    tab.locator("#ask button.go").click()
    tab.locator("#said.bad", has_text="not held").wait_for(timeout=15_000)


def test_a_node_is_drained_and_resumed_from_the_keyboard(page: Page, tab: Tab) -> None:
    tab.goto(f"{page.address}nodes/here", wait_until="load")  # it is drained
    tab.locator("button[data-act=resume]").focus()
    tab.keyboard.press("Enter")
    tab.locator("#ask[open]").wait_for()
    tab.keyboard.press("Escape")
    tab.locator("#ask[open]").wait_for(state="detached")
    assert page.site.ask("nodes/here")["state"] == "drained"


def test_a_log_is_shown_with_colours_searched_and_moved_through(page: Page, tab: Tab) -> None:
    tab.goto(f"{page.address}jobs/{page.failed}", wait_until="load")
    view = tab.locator("[data-log]").nth(1)  # stderr, 300 lines
    view.get_by_label("Search stderr").fill("LINE 17")
    view.get_by_role("button", name="Next").click()
    until(lambda: tab.evaluate("getSelection().toString() === 'line 17'"), "getSelection().toString() === 'line 17'")
    view.get_by_role("button", name="Start").click()
    until(
        lambda: tab.evaluate("document.querySelectorAll('pre.log')[1].scrollTop === 0"),
        "document.querySelectorAll('pre.log')[1].scrollTop === 0",
    )
    assert tab.complaints == []  # type: ignore[attr-defined]
