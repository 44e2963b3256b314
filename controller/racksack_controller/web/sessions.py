"""Sessions of the page: a one-time link becomes a cookie, and the cookie says who looks.

The link is made on the unix socket, where the kernel says who asks. It works once, within LINK_S. The token in the
cookie is 256 random bits, of which the store keeps the hash: a restart signs nobody out, and who reads the store cannot
sign in. A session ends LONGEST_S after its start, IDLE_S after its last use, when its user signs out, or when its user
may no longer use the socket.
"""

from __future__ import annotations

import grp
import hashlib
import hmac
import logging
import os
import pwd
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable

import msgspec
from aiohttp import web

from racksack_controller.store import Store, StoreError

log = logging.getLogger("racksack.web")

LINK_S = 600.0
LONGEST_S = 7 * 86400.0
IDLE_S = 2 * 86400.0
SAVE_EVERY_S = 3600.0  # how exactly the store knows when a session was used last
PER_USER_MAX = 20
LINKS_MAX = 20
_MEMBER_S = 60.0
_BROWSER_CHARS = 160


class Session(msgspec.Struct):
    """One browser that is signed in."""

    digest: str
    uid: int
    created_at_s: float
    seen_at_s: float
    browser: str

    @property
    def ends_at_s(self) -> float:
        """When it ends without being used again."""
        return min(self.created_at_s + LONGEST_S, self.seen_at_s + IDLE_S)


class Sessions:
    """All sessions of one controller."""

    def __init__(self, store: Store, group: str | None, clock: Callable[[], float] = time.time) -> None:
        """`group`: who may use the socket, beside root and the controller's own user."""
        self._store, self._group, self._clock = store, group, clock
        self._sessions: dict[str, Session] = {}
        self._saved_at_s: dict[str, float] = {}
        self._links: dict[str, tuple[int, float]] = {}  # digest of the key -> (uid, when it ends)
        self._members: dict[int, tuple[bool, float]] = {}
        self._secret = secrets.token_bytes(32)
        self.cookie = f"racksack-{store.spool_id}"  # browsers share cookies among all ports of a host

    async def open(self) -> None:
        """Read who was signed in at the last end. Raises StoreError."""
        rows = await self._store.read(
            lambda connection: connection.execute(
                "SELECT digest, uid, created_at_s, seen_at_s, browser FROM web_sessions"
            ).fetchall()
        )
        for session in (Session(*row) for row in rows):
            self._sessions[session.digest] = session
            self._saved_at_s[session.digest] = session.seen_at_s
        await self.end(self._over())

    # Links.

    def new_key(self, uid: int) -> tuple[str, float]:
        """The key of a link that signs this user in, and until when it works."""
        now = self._clock()
        self._links = {digest: link for digest, link in self._links.items() if link[1] > now}
        own = [digest for digest, link in self._links.items() if link[0] == uid]
        for digest in own[: max(0, len(own) - LINKS_MAX + 1)]:
            del self._links[digest]
        key = secrets.token_urlsafe(32)
        self._links[_digest(key)] = (uid, now + LINK_S)
        return key, now + LINK_S

    async def exchange(self, key: str, browser: str, replaces: str | None) -> str | None:
        """The token of a new session for the key of a link; None when the key is used up, too old or made up.

        `replaces`: the token that the browser had; its session ends. Raises StoreError, and then the key still works.
        """
        link = self._links.pop(_digest(key), None)
        now = self._clock()
        if link is None or link[1] <= now or not self._may_use(link[0]):
            return None
        token = secrets.token_urlsafe(32)
        session = Session(_digest(token), link[0], now, now, browser[:_BROWSER_CHARS])
        try:
            await self._store.write(lambda connection: _insert(connection, session))
        except BaseException:
            self._links[_digest(key)] = link
            raise
        self._sessions[session.digest] = session
        self._saved_at_s[session.digest] = now
        old = self._sessions.get(_digest(replaces)) if replaces else None
        own = sorted(self.of_user(link[0]), key=lambda one: one.seen_at_s)
        await self.end([*([old] if old else []), *own[:-PER_USER_MAX]])
        return token

    # Use.

    def token_of(self, request: web.Request) -> str | None:
        """The token that a browser sends, whether it is good or not."""
        return request.cookies.get(self.cookie)

    def of(self, token: str | None) -> Session | None:
        """The session of a token, if it goes on."""
        session = self._sessions.get(_digest(token)) if token else None
        if session is None or session.ends_at_s <= self._clock() or not self._may_use(session.uid):
            return None
        return session

    async def used(self, session: Session) -> None:
        """Note that a session is in use."""
        session.seen_at_s = now = self._clock()
        if now - self._saved_at_s.get(session.digest, now) < SAVE_EVERY_S:
            return
        self._saved_at_s[session.digest] = now
        try:
            await self._store.write(lambda connection: _touch(connection, session))
        except StoreError as error:
            log.warning("the last use of a session was not saved, after a restart it may end early: %s", error)

    def of_user(self, uid: int) -> list[Session]:
        """The sessions of a user that go on, oldest first."""
        now = self._clock()
        return [one for one in self._sessions.values() if one.uid == uid and one.ends_at_s > now]

    async def end(self, sessions: Iterable[Session]) -> None:
        """Sign these out. Raises StoreError; they are signed out until the next start all the same."""
        digests = [session.digest for session in sessions]
        for digest in digests:
            self._sessions.pop(digest, None)
            self._saved_at_s.pop(digest, None)
        if digests:
            await self._store.write(lambda connection: _delete(connection, digests))

    def proof(self, token: str | None, uid: int) -> str:
        """What a browser must send along to change anything, which no foreign page can know (a CSRF token).

        It belongs to the session of `token`, or without one to a user who is known by the socket.
        """
        whose = f"session {token}" if token is not None else f"uid {uid}"
        return hmac.new(self._secret, whose.encode(), hashlib.sha256).hexdigest()

    def _over(self) -> list[Session]:
        now = self._clock()
        return [session for session in self._sessions.values() if session.ends_at_s <= now]

    def _may_use(self, uid: int) -> bool:
        """Whether the user may use the socket, looked up once a minute."""
        known, until_s = self._members.get(uid, (False, 0.0))
        if until_s <= self._clock():
            known = uid in (0, os.geteuid()) or _is_member(uid, self._group)
            self._members[uid] = (known, self._clock() + _MEMBER_S)
        return known


def _is_member(uid: int, group: str | None) -> bool:
    if group is None:
        return False
    try:
        account, wanted = pwd.getpwuid(uid), grp.getgrnam(group)
    except KeyError:
        return False
    return account.pw_gid == wanted.gr_gid or account.pw_name in wanted.gr_mem


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def _insert(connection: sqlite3.Connection, session: Session) -> None:
    connection.execute("INSERT INTO web_sessions VALUES (?, ?, ?, ?, ?)", msgspec.structs.astuple(session))


def _touch(connection: sqlite3.Connection, session: Session) -> None:
    connection.execute("UPDATE web_sessions SET seen_at_s = ? WHERE digest = ?", (session.seen_at_s, session.digest))


def _delete(connection: sqlite3.Connection, digests: list[str]) -> None:
    connection.executemany("DELETE FROM web_sessions WHERE digest = ?", [(digest,) for digest in digests])
