"""Signing in at the page and out again: links, their exchange for a cookie, and the list of sessions."""

from __future__ import annotations

import time

from aiohttp import web

from racksack_controller import users
from racksack_controller.web.caller import Caller, Way, body_of, forbidden, refusal
from racksack_controller.web.context import CONTEXT
from racksack_controller.web.rendering import problem_page
from racksack_controller.web.sessions import LONGEST_S, Session
from racksack_controller.web.views import View
from racksack_jobspecs.states import ExitCode

USED_UP = (
    "This link has been used already, or is older than ten minutes. Run `racksack web login` for another one; "
    "each works once."
)
FROM_ELSEWHERE = "Copy the link into the address bar of your browser: a page of another site cannot sign you in."

routes = web.RouteTableDef()


def is_link(request: web.Request) -> bool:
    """Whether a request follows a link that signs in."""
    return "key" in request.query and request.method == "GET" and not request.path.startswith(("/api/", "/static/"))


async def answer_link(request: web.Request) -> web.StreamResponse:
    """Exchange the key for a cookie, and have the browser go on to the page without the key in its address."""
    context = request.app[CONTEXT]
    sessions = context.sessions
    if "prefetch" in request.headers.get("Sec-Purpose", request.headers.get("Purpose", "")):
        return web.Response(status=204, headers={"Cache-Control": "no-store"})  # nobody has opened it yet
    onward = request.rel_url.without_query_params("key")
    answer = web.Response(status=303, headers={"Location": str(onward), "Cache-Control": "no-store"})
    caller = context.caller(request)
    if caller.way is Way.SOCKET:
        return answer
    if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
        return problem_page(request, FROM_ELSEWHERE, 403)
    had = sessions.token_of(request)
    token = await sessions.exchange(request.query["key"], request.headers.get("User-Agent", ""), had)
    if token is None:
        return answer if caller.is_known else problem_page(request, USED_UP, 403)
    is_secure = request.secure or request.headers.get("X-Forwarded-Proto", "").lower() == "https"
    answer.set_cookie(
        sessions.cookie, token, max_age=int(LONGEST_S), httponly=True, samesite="Strict", secure=is_secure, path="/"
    )
    return answer


def proof_of(request: web.Request, caller: Caller) -> str:
    """What this caller's pages send along with every change."""
    assert caller.uid is not None  # noqa: S101 - callers look
    sessions = request.app[CONTEXT].sessions
    token = sessions.token_of(request) if caller.way is Way.SESSION else None
    return sessions.proof(token, caller.uid)


@routes.post("/api/v1/web/login")
async def login(request: web.Request) -> web.Response:
    """A path that signs its first visitor in as the caller. Only on the socket: no session may prolong itself."""
    context = request.app[CONTEXT]
    caller = context.caller(request)
    if caller.way is not Way.SOCKET or caller.uid is None:
        raise forbidden("a link to sign in is made by `racksack web login` alone")
    key, until_s = context.sessions.new_key(caller.uid)
    return web.json_response({"path": f"/?key={key}", "works_until_s": until_s, "user": caller.name})


@routes.get("/api/v1/web/session")
async def session(request: web.Request) -> web.Response:
    """Who looks, and the proof that this browser sends along with every change."""
    context = request.app[CONTEXT]
    caller = context.caller(request)
    answer: View = {"user": caller.name or None, "is_operator": caller.is_operator, "proof": None, "ends_at_s": None}
    if caller.is_known and caller.way is not Way.TOKEN:
        answer["proof"] = proof_of(request, caller)
    if caller.way is Way.SESSION:
        found = context.sessions.of(context.sessions.token_of(request))
        answer["ends_at_s"] = found.ends_at_s if found is not None else None
    return web.json_response(answer, headers={"Cache-Control": "no-store"})


@routes.get("/api/v1/web/sessions")
async def listed(request: web.Request) -> web.Response:
    """The caller's sessions, oldest first."""
    context = request.app[CONTEXT]
    caller = context.caller(request)
    if caller.uid is None:
        raise forbidden("not signed in")
    return web.json_response([_view(one) for one in context.sessions.of_user(caller.uid)])


@routes.post("/api/v1/web/logout")
async def logout(request: web.Request) -> web.Response:
    """End this browser's session, with `all` every one of the caller; how many ended."""
    context = request.app[CONTEXT]
    caller, sessions = context.caller(request), context.sessions
    if caller.uid is None:
        raise forbidden("not signed in")
    if (await body_of(request)).get("all") is True:
        ended = sessions.of_user(caller.uid)
    else:
        own = sessions.of(sessions.token_of(request)) if caller.way is Way.SESSION else None
        if own is None:
            raise refusal("this is not a browser session; use `all`", ExitCode.USAGE)
        ended = [own]
    await sessions.end(ended)
    answer = web.json_response({"ended": len(ended)})
    answer.del_cookie(sessions.cookie, path="/")
    return answer


def _view(one: Session) -> View:
    return {
        "user": users.name_of(one.uid),
        "browser": one.browser,
        "signed_in_at_s": one.created_at_s,
        "seen_at_s": min(one.seen_at_s, time.time()),
        "ends_at_s": one.ends_at_s,
    }
