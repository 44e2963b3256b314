"""The index that nodes ask: pages are asked for anew after some minutes, and given as they are while the real index is
away; files never change and are kept.

It listens on the controller's loopback interface, and each node reaches it through a port that its SSH connection
forwards. It answers for one index, and only for projects and files that this index names.
"""

from __future__ import annotations

import asyncio
import binascii
import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp
import msgspec
from aiohttp import web

from racksack_controller.package_index import pages
from racksack_controller.package_index.doors import Login, guard, without_login
from racksack_controller.package_index.fetching import Download, FetchError, Files
from racksack_controller.package_index.pages import Page, PageError
from racksack_controller.turns import KeyedLocks
from racksack_jobspecs.bounds import UNDECODABLE

log = logging.getLogger("racksack.index")

FRESH_S = 600.0
PAGE_TIMEOUT_S = 30.0
PAGE_BYTES_MAX = 64 * 1024**2


class PackageIndex:
    """A pull-through cache of one package index."""

    def __init__(
        self,
        folder: Path,
        upstream: str,
        bytes_max: int,
        make_runner: Callable[[web.Application], web.AppRunner] = web.AppRunner,
    ) -> None:
        """`upstream`: the address under which projects have their pages, such as https://index.example/simple; with a
        login it is never shown. `make_runner`: what listens, with bounds on its connections.
        """
        self._upstream, self._login = without_login(upstream.rstrip("/")), Login(upstream)
        self._make_runner = make_runner
        self._pages = folder / "pages"
        self._files = Files(folder / "files", bytes_max)
        self._checked: dict[str, float] = {}  # by project: when its page was last found right (monotonic)
        self._locks = KeyedLocks()
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def open(self) -> None:
        """Listen. Raises OSError."""
        await asyncio.to_thread(self._prepare)
        self._session = aiohttp.ClientSession(trust_env=True)
        app = web.Application(middlewares=[guard])
        app.router.add_get("/simple/{project}/", self._page)
        app.router.add_get("/simple/{project}", self._page)
        app.router.add_get("/files/{project}/{file}", self._file)
        self._runner = self._make_runner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = int(self._runner.addresses[0][1])
        log.info("package index for nodes port=%d upstream=%s", self.port, self._upstream)

    def _prepare(self) -> None:
        self._pages.mkdir(parents=True, exist_ok=True)
        self._files.prepare()

    async def close(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
        await self._files.close()
        if self._session is not None:
            await self._session.close()

    async def _page(self, request: web.Request) -> web.Response:
        page = await self._found(request)
        if pages.JSON_TYPE in request.headers.get("Accept", ""):
            return web.Response(body=pages.as_json(page), content_type=pages.JSON_TYPE)
        return web.Response(body=pages.as_html(page), content_type=pages.HTML_TYPE)

    async def _found(self, request: web.Request) -> Page:
        """The page of the project in the address. Raises web.HTTPException."""
        name = pages.normal(request.match_info["project"])
        if not pages.PROJECT.fullmatch(name):
            raise web.HTTPNotFound(text=f"{name[:100]!r} is not the name of a project\n")
        async with self._locks.alone_with(name):
            return await self._page_of(name)

    async def _page_of(self, name: str) -> Page:
        known = await asyncio.to_thread(self._kept, name)
        if known is not None and time.monotonic() - self._checked.get(name, float("-inf")) < FRESH_S:
            return known
        try:
            page = await self._asked(name, known)
        except (aiohttp.ClientError, TimeoutError, OSError, PageError) as error:
            if known is None:
                sentence = f"{self._upstream} could not be asked about {name}: {str(error) or type(error).__name__}"
                log.warning("%s", sentence)
                raise web.HTTPBadGateway(text=sentence + "\n") from None
            log.warning("%s does not answer about %s (%s); using the cached page", self._upstream, name, error)
            return known
        self._checked[name] = time.monotonic()
        return page

    def _kept(self, name: str) -> Page | None:
        """Runs in a thread."""
        try:
            return msgspec.json.decode((self._pages / f"{name}.json").read_bytes(), type=Page)
        except (OSError, *UNDECODABLE):
            return None

    async def _asked(self, name: str, known: Page | None) -> Page:
        """Raises aiohttp.ClientError, TimeoutError, OSError, PageError, web.HTTPException."""
        assert self._session is not None  # noqa: S101 - it is open
        headers = {"Accept": pages.WANTED, **({"If-None-Match": known.etag} if known and known.etag else {})}
        url = f"{self._upstream}/{name}/"
        headers |= self._login.headers(url)
        timeout = aiohttp.ClientTimeout(total=PAGE_TIMEOUT_S)
        async with self._session.get(url, headers=headers, timeout=timeout) as answer:
            if answer.status == 304 and known is not None:
                return known
            if answer.status == 404:
                raise web.HTTPNotFound(text=f"{self._upstream} has no project {name}\n")
            if answer.status != 200:
                raise PageError(f"it answered with {answer.status}")
            data = await answer.content.read(PAGE_BYTES_MAX)
            while more := await answer.content.read(PAGE_BYTES_MAX):
                data += more
                if len(data) > PAGE_BYTES_MAX:
                    raise PageError("its page is too large")
            etag, kind = answer.headers.get("ETag", ""), answer.headers.get("Content-Type", "")
            page = await asyncio.to_thread(pages.read, name, data, kind, str(answer.url), etag)
        await asyncio.to_thread(self._keep, page)
        return page

    def _keep(self, page: Page) -> None:
        """Runs in a thread. Raises OSError."""
        beside = self._pages / f".new-{page.name}"
        beside.write_bytes(msgspec.json.encode(page))
        beside.rename(self._pages / f"{page.name}.json")

    async def _file(self, request: web.Request) -> web.StreamResponse:
        assert self._session is not None  # noqa: S101 - it is open
        page, name = await self._found(request), request.match_info["file"]
        file, suffix, sha256 = page.file(name), "", ""
        if file is not None:
            sha256 = file.sha256
        elif name.endswith(".metadata") and (file := page.file(name.removesuffix(".metadata"))) is not None:
            suffix = ".metadata"
            sha256 = file.has_metadata if isinstance(file.has_metadata, str) else ""
        if file is None or (suffix and not file.has_metadata):
            raise web.HTTPNotFound(text=f"{page.name} has no file {name[:200]}\n")
        found = await self._files.get(self._session, file.url + suffix, sha256, self._login.headers(file.url))
        if isinstance(found, Path):
            return web.FileResponse(found, headers={"Content-Type": "application/octet-stream"})
        return await _as_it_comes(request, found, file.size if not suffix else None)


async def _as_it_comes(request: web.Request, download: Download, size_bytes: int | None) -> web.StreamResponse:
    """Give a file while it is fetched. One that does not come whole ends the connection: nobody takes it for whole."""
    chunks = download.chunks()
    try:
        first = await anext(chunks, b"")
    except FetchError as error:
        raise web.HTTPBadGateway(text=f"{error}\n") from None
    answer = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    if size_bytes is not None:
        answer.content_length = size_bytes
    await answer.prepare(request)
    try:
        await answer.write(first)
        async for data in chunks:
            await answer.write(data)
    except FetchError as error:
        log.warning("%s", error)
        if request.transport is not None:
            request.transport.abort()
        return answer
    with contextlib.suppress(ConnectionResetError):
        await answer.write_eof()
    return answer


def preferred_port(name: str) -> int:
    """The port of nodes, by the name of the spool: uv's cache and kept venvs go by the index's address."""
    return 42_000 + binascii.crc32(name.encode()) % 1000


def variables(port: int) -> dict[str, str]:
    """What makes uv and pip on a node ask the index at this port of its loopback interface."""
    url = f"http://127.0.0.1:{port}/simple/"
    return {"UV_DEFAULT_INDEX": url, "PIP_INDEX_URL": url, "RACKSACK_INDEX": url}
