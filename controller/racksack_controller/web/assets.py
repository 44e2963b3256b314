"""The files of the page that never change while a controller runs (style, scripts, icon), compressed once."""

from __future__ import annotations

import functools
import gzip
import hashlib
from importlib import resources

import msgspec
from aiohttp import web

TYPES = {
    "style.css": "text/css",
    "acting.js": "text/javascript",
    "log.js": "text/javascript",
    "live.js": "text/javascript",
    "idiomorph.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
KEPT_S = 365 * 86400

routes = web.RouteTableDef()


class File(msgspec.Struct, frozen=True):
    """One file, whole and compressed, and the version that stands in its address."""

    content: bytes
    compressed: bytes
    version: str


@functools.cache
def read(name: str) -> File:
    """A file of TYPES."""
    content = resources.files("racksack_controller.web").joinpath("static", name).read_bytes()
    version = hashlib.blake2s(content, digest_size=5).hexdigest()
    return File(content, gzip.compress(content, mtime=0), version)


def address(name: str) -> str:
    """Where the file is; another content has another address, so browsers may keep it."""
    return f"/static/{name}?v={read(name).version}"


@routes.get("/static/{name}")
async def send(request: web.Request) -> web.Response:
    """A file."""
    name = request.match_info["name"]
    if name not in TYPES:
        raise web.HTTPNotFound
    file = read(name)
    headers = {"Cache-Control": f"max-age={KEPT_S}, immutable", "Vary": "Accept-Encoding"}
    if request.query.get("v") != file.version:
        headers["Cache-Control"] = "no-cache"
    content = file.content
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        content = file.compressed
        headers["Content-Encoding"] = "gzip"
    return web.Response(body=content, content_type=TYPES[name], charset="utf-8", headers=headers)
