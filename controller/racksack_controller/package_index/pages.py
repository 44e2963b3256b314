"""Pages of a package index: read from the real one (JSON of PEP 691, or HTML of PEP 503), written for our nodes."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import msgspec

from racksack_jobspecs.bounds import UNDECODABLE

JSON_TYPE = "application/vnd.pypi.simple.v1+json"
HTML_TYPE = "text/html"
WANTED = f"{JSON_TYPE}, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
PROJECT = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,198}[a-z0-9])?")
FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]{0,250}")
FILES_MAX = 200_000
_SHA256 = re.compile(r"[0-9a-f]{64}")


class PageError(ValueError):
    """What the real index sent is no page."""


class File(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a project."""

    name: str
    url: str
    sha256: str = ""
    requires_python: str = ""
    size: int | None = None
    uploaded: str = ""
    yanked: bool | str = False
    has_metadata: bool | str = False  # beside it, under its name and .metadata; a text is the sum of that


class Page(msgspec.Struct, frozen=True):
    """The files of a project."""

    name: str
    files: tuple[File, ...]
    etag: str = ""

    def file(self, name: str) -> File | None:
        """The one of this name."""
        return next((one for one in self.files if one.name == name), None)


def normal(name: str) -> str:
    """A project's name as all names of it are compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read(name: str, data: bytes, kind: str, url: str, etag: str) -> Page:
    """A page as the real index sent it. Raises PageError."""
    found = _of_json(data, url) if "json" in kind else _of_html(data.decode("utf-8", "replace"), url)
    good = [one for one in found if FILE.fullmatch(one.name)]
    if len(good) > FILES_MAX:
        raise PageError(f"the page of {name} lists {len(good)} files")
    return Page(name, tuple(good), etag)


def _of_json(data: bytes, url: str) -> Iterator[File]:
    try:
        said: dict[str, Any] = msgspec.json.decode(data, type=dict[str, Any])
        for one in said["files"]:
            core = one.get("core-metadata", one.get("dist-info-metadata", False))
            yield File(
                name=str(one["filename"]),
                url=urljoin(url, str(one["url"])),
                sha256=_sha256(one.get("hashes", {}).get("sha256", "")),
                requires_python=str(one.get("requires-python") or ""),
                size=one.get("size") if isinstance(one.get("size"), int) else None,
                uploaded=str(one.get("upload-time") or ""),
                yanked=one.get("yanked", False) if isinstance(one.get("yanked", False), bool | str) else False,
                has_metadata=_sha256(core.get("sha256", "")) or True if isinstance(core, dict) else bool(core),
            )
    except (*UNDECODABLE, KeyError, TypeError, ValueError, AttributeError) as error:
        raise PageError(f"it is not the JSON of a package index: {error}") from error


def _sha256(text: object) -> str:
    return text if isinstance(text, str) and _SHA256.fullmatch(text) else ""


class _Anchors(HTMLParser):
    """The links of a page, each with its attributes; a `base` moves what they are relative to."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.base = url
        self.found: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """See HTMLParser."""
        if tag == "base" and (href := dict(attrs).get("href")):
            self.base = urljoin(self.base, href)
        elif tag == "a":
            self.found.append(dict(attrs))


def _of_html(text: str, url: str) -> Iterator[File]:
    parser = _Anchors(url)
    try:
        parser.feed(text)
    except (AssertionError, ValueError) as error:  # html.parser's own, for declarations that there are none of
        raise PageError(f"it is not the HTML of a package index: {error}") from error
    for one in parser.found:
        href = one.get("href")
        if not href:
            continue
        parts = urlsplit(urljoin(parser.base, href))
        algorithm, _, value = parts.fragment.partition("=")
        core = one.get("data-core-metadata", one.get("data-dist-info-metadata", "false"))
        yield File(
            name=unquote(parts.path.rpartition("/")[2]),
            url=parts._replace(fragment="").geturl(),
            sha256=_sha256(value) if algorithm == "sha256" else "",
            requires_python=one.get("data-requires-python") or "",
            yanked=(one["data-yanked"] or True) if "data-yanked" in one else False,
            has_metadata=_sha256((core or "").removeprefix("sha256=")) or core not in ("false", None),
        )


def as_json(page: Page) -> bytes:
    """The page for our nodes, whose files are ours."""
    return msgspec.json.encode(
        {
            "meta": {"api-version": "1.1"},
            "name": page.name,
            "versions": [],
            "files": [_entry(page, one) for one in page.files],
        }
    )


def _entry(page: Page, one: File) -> dict[str, object]:
    core: object = {"sha256": one.has_metadata} if isinstance(one.has_metadata, str) else one.has_metadata
    return {
        "filename": one.name,
        "url": _path(page, one),
        "hashes": {"sha256": one.sha256} if one.sha256 else {},
        "yanked": one.yanked,
        "core-metadata": core,
        "dist-info-metadata": core,
        **({"requires-python": one.requires_python} if one.requires_python else {}),
        **({"size": one.size} if one.size is not None else {}),
        **({"upload-time": one.uploaded} if one.uploaded else {}),
    }


def as_html(page: Page) -> bytes:
    """The same for an old pip."""
    lines = []
    for one in page.files:
        attributes = ""
        if one.requires_python:
            attributes += f' data-requires-python="{html.escape(one.requires_python)}"'
        if one.yanked is not False:
            attributes += f' data-yanked="{html.escape(one.yanked if isinstance(one.yanked, str) else "")}"'
        if one.has_metadata:
            value = f"sha256={one.has_metadata}" if isinstance(one.has_metadata, str) else "true"
            attributes += f' data-core-metadata="{value}" data-dist-info-metadata="{value}"'
        anchor = f"#sha256={one.sha256}" if one.sha256 else ""
        lines.append(f'<a href="{_path(page, one)}{anchor}"{attributes}>{html.escape(one.name)}</a><br>')
    return ("<!DOCTYPE html><html><body>\n" + "\n".join(lines) + "\n</body></html>\n").encode()


def _path(page: Page, one: File) -> str:
    return f"/files/{page.name}/{one.name.replace('+', '%2B')}"
