"""Pages from templates, everything escaped: whole for any browser, the body alone for one that follows.

A browser that follows asks with the ETag of the body that it shows, and gets another one only where it differs.
"""

from __future__ import annotations

import hashlib
import re
import time
from typing import Any

import jinja2
from aiohttp import web
from markupsafe import Markup

from racksack_controller.web import assets
from racksack_controller.web.api_controller import controller_view
from racksack_controller.web.context import CONTEXT
from racksack_jobspecs.units import exact_duration, format_duration, format_memory

_HEADINGS = {403: "Not signed in", 404: "Not found"}


_TICKING = re.compile(r"(<time data-(?:since|until)=[^>]*>)[^<]*")  # the browser counts these on by itself
_NOT_KEPT = {"Cache-Control": "no-store"}
NOW_HEADER = "Racksack-Now"
COMPRESSED_ABOVE = 2048  # characters


def _moment_text(at_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(at_s))


def _moment(at_s: float) -> Markup:
    """A moment in the controller's zone; a browser with JavaScript shows it in its reader's."""
    iso = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_s))
    return Markup('<time datetime="{}" data-at="{:.0f}">{}</time>').format(iso, at_s, _moment_text(at_s))


def _duration(seconds: float) -> str:
    return format_duration(max(0.0, float(seconds)))


def _since(at_s: float) -> Markup:
    """How long ago a moment is."""
    return Markup('<time data-since="{:.0f}">{}</time>').format(at_s, _duration(time.time() - at_s))


def _until(at_s: float) -> Markup:
    """How far off a moment is."""
    return Markup('<time data-until="{:.0f}">{}</time>').format(at_s, _duration(at_s - time.time()))


def _from_now(seconds: float) -> Markup:
    """A moment that is so many seconds off; as `until`."""
    return _until(time.time() + seconds)


def _energy(kwh: float) -> str:
    """As the client shows it."""
    if 0 < abs(kwh) < 1e-5:
        return "<0.01 Wh"
    return f"{kwh:.2f} kWh" if abs(kwh) >= 0.1 else f"{1000 * kwh:.2f} Wh"


def _figure(value: object) -> str:
    """A parameter or metric for a table."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.6g}" if isinstance(value, float) else str(value)[:200]


def _money(cost: float) -> str:
    if 0 < abs(cost) < 1e-4:
        return "<0.0001"
    return f"{cost:.2f}" if abs(cost) >= 0.1 or not cost else f"{cost:.4f}"


_pages = jinja2.Environment(
    loader=jinja2.PackageLoader("racksack_controller.web"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)
_pages.filters["memory"] = lambda size: format_memory(int(size))
_pages.filters["duration"] = _duration
_pages.filters["exact_duration"] = exact_duration
_pages.filters["capital"] = lambda sentence: sentence[:1].upper() + sentence[1:]
_pages.filters["moment"] = _moment
_pages.filters["moment_text"] = _moment_text
_pages.filters["since"] = _since
_pages.filters["until"] = _until
_pages.filters["from_now"] = _from_now
_pages.filters["clock"] = lambda at_s: time.strftime("%d. %H:%M", time.localtime(at_s))
_pages.filters["figure"] = _figure
_pages.filters["energy"] = _energy
_pages.filters["money"] = _money
_pages.globals["static"] = assets.address


def show(request: web.Request, name: str, values: dict[str, Any], status: int = 200) -> web.Response:
    """The page; with `?fragment=1` its body alone, and 304 where the browser shows that very one."""
    context = request.app[CONTEXT]
    known = {
        "controller": controller_view(context),
        "viewer": context.caller(request),
        "fragment": str(request.rel_url.update_query(fragment="1")) if status == 200 else "",
    }
    if request.query.get("fragment") != "1" or status != 200:
        return _html(_pages.get_template(f"{name}.html").render({**known, **values}), _NOT_KEPT, status)
    text = _pages.get_template(f"{name}_body.html").render({**known, **values})
    lasting = _TICKING.sub(r"\1", text).encode()
    version = f'"{hashlib.blake2s(lasting, digest_size=8).hexdigest()}"'
    headers = {**_NOT_KEPT, "ETag": version, NOW_HEADER: f"{time.time():.3f}"}
    if request.headers.get("If-None-Match") == version:
        return web.Response(status=304, headers=headers)
    return _html(text, headers)


def _html(text: str, headers: dict[str, str], status: int = 200) -> web.Response:
    response = web.Response(text=text, content_type="text/html", status=status, headers=headers)
    if len(text) > COMPRESSED_ABOVE:
        response.enable_compression()
    return response


def page_text(template: str, values: dict[str, Any]) -> str:
    """A page that stands by itself."""
    return _pages.get_template(template).render(values)


def not_found(request: web.Request, sentence: str) -> web.Response:
    """A page that says what there is not."""
    return problem_page(request, sentence, 404)


def problem_page(request: web.Request, sentence: str, status: int) -> web.Response:
    """A page that says why there is no other."""
    heading = _HEADINGS.get(status, "That did not work")
    return show(request, "error", {"heading": heading, "sentence": sentence}, status)
