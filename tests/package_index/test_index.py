"""What the controller's package index answers, with a real index behind it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest

from racksack_controller.package_index import pages, server
from racksack_controller.package_index.server import PackageIndex
from tests.package_index.conftest import Upstream


@pytest.fixture
async def index(upstream: Upstream, tmp_path: Path) -> AsyncIterator[PackageIndex]:
    made = PackageIndex(tmp_path / "cache", upstream.url, 1 << 30)
    await made.open()
    yield made
    await made.close()


async def get(index: PackageIndex, path: str, accept: str = "*/*") -> tuple[int, str, bytes]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{index.port}{path}", headers={"Accept": accept}) as answer,
    ):
        return answer.status, answer.content_type, await answer.read()


@pytest.mark.parametrize("accept", [pages.WANTED, "text/html"])
async def test_a_file_is_fetched_once_however_many_ask(index: PackageIndex, upstream: Upstream, accept: str) -> None:
    wheel = upstream.add("demo", code="data = '" + "x" * 2_000_000 + "'\n")
    status, kind, page = await get(index, "/simple/Demo/", accept)
    assert status == 200
    assert ("json" in kind) == ("json" in accept)
    assert f"/files/demo/{wheel.name}".encode() in page
    assert b"8" in page
    answers = await asyncio.gather(*(get(index, f"/files/demo/{wheel.name}") for _ in range(8)))
    assert {data for _, _, data in answers} == {wheel.read_bytes()}
    assert upstream.files_asked() == 1
    assert sum(upstream.asked.values()) == 2, "the page is fresh for a while"
    await until(lambda: not index._files._tasks)
    assert not list((index._files._folder).glob(".new-*"))


async def test_what_is_kept_does_while_the_index_is_away(
    index: PackageIndex, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = upstream.add("demo")
    upstream.add("other")
    await get(index, "/simple/demo/")
    await get(index, f"/files/demo/{wheel.name}")
    upstream.go_away()
    monkeypatch.setattr(server, "FRESH_S", 0.0)
    assert (await get(index, "/simple/demo/"))[0] == 200
    assert (await get(index, f"/files/demo/{wheel.name}"))[2] == wheel.read_bytes()
    status, _, sentence = await get(index, "/simple/other/")
    assert status == 502
    assert b"could not be asked about other" in sentence


async def test_new_versions_are_seen_when_the_page_is_no_longer_fresh(
    index: PackageIndex, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.add("demo")
    await get(index, "/simple/demo/")
    upstream.add("demo", "2.0")
    assert b"2.0" not in (await get(index, "/simple/demo/"))[2]
    monkeypatch.setattr(server, "FRESH_S", 0.0)
    assert b"2.0" in (await get(index, "/simple/demo/"))[2]


@pytest.mark.parametrize("fault", ["damaged", "cut"])
async def test_a_file_that_is_not_what_its_page_says_is_not_kept(
    index: PackageIndex, upstream: Upstream, fault: str
) -> None:
    wheel = upstream.add("demo", code="data = '" + "x" * 2_000_000 + "'\n")
    getattr(upstream, fault).add(wheel.name)
    await get(index, "/simple/demo/")
    with contextlib.suppress(aiohttp.ClientError):
        status, _, data = await get(index, f"/files/demo/{wheel.name}")
        assert status == 502 or data != wheel.read_bytes()
    getattr(upstream, fault).clear()
    assert (await get(index, f"/files/demo/{wheel.name}"))[2] == wheel.read_bytes()
    assert upstream.files_asked() == 2


@pytest.mark.parametrize(
    "path",
    ["/simple/nothing/", "/simple/..%2F..%2Fetc/", "/files/demo/none.whl", "/files/demo/..%2F..%2Fx", "/", "/simple/"],
)
async def test_only_what_the_index_names_is_given(index: PackageIndex, upstream: Upstream, path: str) -> None:
    upstream.add("demo")
    assert (await get(index, path))[0] == 404


async def test_the_least_recently_used_goes_first(upstream: Upstream, tmp_path: Path) -> None:
    wheels = [upstream.add(f"demo{number}", code=f"x = '{number}" + "y" * 50_000 + "'\n") for number in range(3)]
    index = PackageIndex(tmp_path / "cache", upstream.url, wheels[0].stat().st_size * 2 + 100)
    await index.open()
    try:
        for number, wheel in enumerate(wheels):
            await get(index, f"/files/demo{number}/{wheel.name}")
            await until(lambda: not index._files._tasks)
            kept = sorted((tmp_path / "cache/files").iterdir(), key=lambda path: path.stat().st_mtime)
            for age, path in enumerate(kept):
                os.utime(path, (age, age))
        assert len(list((tmp_path / "cache/files").iterdir())) == 2
        await get(index, f"/files/demo2/{wheels[2].name}")
        await get(index, f"/files/demo0/{wheels[0].name}")
        assert upstream.files_asked() == 4, "the first one has gone"
    finally:
        await index.close()


async def until(look: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not look():
            await asyncio.sleep(0.02)


def test_pages_are_read_as_json_and_as_html_and_written_as_both() -> None:
    sums = "a" * 64, "b" * 64
    text = (
        b'{"name": "demo", "files": [{"filename": "demo-1.0.whl", "url": "../f/demo-1.0.whl", "hashes": {"sha256": "'
        + sums[0].encode()
        + b'"}, "requires-python": ">=3.9", "size": 7, "yanked": "broken", "core-metadata": {"sha256": "'
        + sums[1].encode()
        + b'"}}, {"filename": "bad name/.whl", "url": "x"}]}'
    )
    page = pages.read("demo", text, pages.JSON_TYPE, "https://index.example/simple/demo/", "e1")
    [file] = page.files
    assert file.url == "https://index.example/simple/f/demo-1.0.whl"
    assert (file.sha256, file.has_metadata, file.yanked, file.size) == (*sums, "broken", 7)
    again = pages.read("demo", pages.as_html(page), "text/html", "http://127.0.0.1/simple/demo/", "")
    [copy] = again.files
    assert copy.url == "http://127.0.0.1/files/demo/demo-1.0.whl"
    assert (copy.name, copy.sha256, copy.has_metadata, copy.yanked) == (file.name, *sums, "broken")
    assert copy.requires_python == ">=3.9"
    for wrong in (b"", b"[]", b'{"files": 3}', b'{"files": [{"url": 1}]}', b'{"files": ["x"]}'):
        with pytest.raises(pages.PageError):
            pages.read("demo", wrong, pages.JSON_TYPE, "https://index.example/", "")
