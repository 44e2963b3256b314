"""Pages from templates, everything escaped: whole for a browser without JavaScript, the body alone for one with it."""

from __future__ import annotations

import time
from typing import Any

import jinja2
from aiohttp import web

from racksack_controller.web.api_controller import controller_view
from racksack_controller.web.context import CONTEXT
from racksack_jobspecs.units import format_duration, format_memory

_HEADINGS = {403: "Not signed in", 404: "Not found"}


def _moment(at_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_s))


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
_pages.filters["duration"] = lambda seconds: format_duration(max(0.0, float(seconds)))
_pages.filters["moment"] = _moment
_pages.filters["clock"] = lambda at_s: time.strftime("%d. %H:%M", time.localtime(at_s))
_pages.filters["figure"] = _figure
_pages.filters["energy"] = _energy
_pages.filters["money"] = _money


def show(request: web.Request, name: str, values: dict[str, Any]) -> web.Response:
    """The page, or its body alone when it is asked for with `?fragment=1`."""
    context = request.app[CONTEXT]
    alone = request.query.get("fragment") == "1"
    template = _pages.get_template(f"{name}_body.html" if alone else f"{name}.html")
    address = request.rel_url.update_query(fragment="1")
    known = {"controller": controller_view(context), "fragment": str(address)}
    text = template.render({**known, **values})
    return web.Response(text=text, content_type="text/html", headers={"Cache-Control": "no-store"})


def page_text(template: str, values: dict[str, Any]) -> str:
    """A page that stands by itself."""
    return _pages.get_template(template).render(values)


def not_found(request: web.Request, sentence: str) -> web.Response:
    """A page that says what there is not."""
    return problem_page(request, sentence, 404)


def problem_page(request: web.Request, sentence: str, status: int) -> web.Response:
    """A page that says why there is no other."""
    text = _pages.get_template("error.html").render(
        controller=controller_view(request.app[CONTEXT]),
        fragment="",
        heading=_HEADINGS.get(status, "That did not work"),
        sentence=sentence,
    )
    return web.Response(text=text, content_type="text/html", status=status, headers={"Cache-Control": "no-store"})
