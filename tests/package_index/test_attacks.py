"""The package index is asked by jobs and by whatever else runs on this machine: none of it harms the controller."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from racksack_controller import disk_room
from racksack_controller.config.config import ConfigError, parse_config
from racksack_controller.package_index.server import PackageIndex
from racksack_controller.web import connections
from racksack_controller.web.connections import bounded
from tests.package_index.conftest import Upstream

PASSWORD = "hunter2-canary"


@pytest.fixture
async def index(tmp_path: Path, upstream: Upstream) -> AsyncIterator[PackageIndex]:
    address = upstream.url.replace("http://", f"http://ann:{PASSWORD}@")
    found = PackageIndex(tmp_path / "index", address, 10**9, bounded)
    await found.open()
    yield found
    await found.close()


async def ask(index: PackageIndex, path: str, host: str | None = None) -> tuple[int, str]:
    headers = {"Host": host} if host else {}
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{index.port}/{path}", headers=headers) as answer,
    ):
        return answer.status, (await answer.read()).decode("utf-8", "replace")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "10.0.0.1", "[", "localhost.evil.example"])
async def test_a_page_that_has_its_name_lead_here_reads_nothing(index: PackageIndex, host: str) -> None:
    status, text = await ask(index, "simple/absent/", host)
    assert status in (400, 403)
    assert "absent" not in text
    assert (await ask(index, "simple/absent/"))[0] == 404


async def test_the_login_of_the_real_index_is_told_to_nobody(
    index: PackageIndex, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    said = [await ask(index, "simple/absent/")]
    upstream.go_away()
    said.append(await ask(index, "simple/other/"))
    assert [status for status, _ in said] == [404, 502]
    assert PASSWORD not in str(said) + caplog.text


async def test_the_login_goes_to_the_real_index_alone(index: PackageIndex, upstream: Upstream) -> None:
    assert (await ask(index, f"files/demo/{upstream.add('demo').name}"))[0] == 200
    assert upstream.logins == {f"ann:{PASSWORD}"}, "its page and its files"
    assert index._login.headers(upstream.url)
    assert not index._login.headers("http://files.example/simple")


async def test_connections_that_say_nothing_are_cut(index: PackageIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 0.1)
    idle = [socket.create_connection(("127.0.0.1", index.port)) for _ in range(20)]
    try:
        reader, _writer = await asyncio.open_connection(sock=idle[0])
        assert await asyncio.wait_for(reader.read(), 30) == b""
        assert (await ask(index, "simple/absent/"))[0] == 404
    finally:
        for one in idle:
            one.close()


async def test_files_do_not_fill_the_disk(
    index: PackageIndex, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = upstream.add("demo")
    monkeypatch.setattr(disk_room, "RESERVE_BYTES", 2**62)
    monkeypatch.setattr(disk_room, "RESERVE_SHARE", 2.0)
    monkeypatch.setattr(disk_room, "SMALL_SHARE", 0.0)
    status, text = await ask(index, f"files/demo/{wheel.name}")
    assert status == 502
    assert "nearly full" in text


def test_a_password_in_the_configuration_is_refused() -> None:
    text = "nodes: {here: {local: {}}}\nenvironment: {index: controller, upstream: 'https://a:hunter2@i.example/s'}\n"
    with pytest.raises(ConfigError, match="holds a password") as caught:
        parse_config(text)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"line 2: environment\.upstream: names T, which does not stand under"):
        parse_config(text.replace("hunter2", "${T}"))
