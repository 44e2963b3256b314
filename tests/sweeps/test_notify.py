"""Ends of sweeps are told: over real HTTP and SMTP, by a command, again after failures, and after a restart."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from msgspec.structs import replace

from racksack_controller.config.config import ConfigError, parse_config
from racksack_controller.config.notify import Channel
from racksack_controller.core.sweeps.records import Progress, Sweep
from racksack_controller.notify.notifier import Notifier
from racksack_controller.store import Store
from racksack_controller.sweeps.results import ledger
from racksack_jobspecs.parse import parse_job
from racksack_jobspecs.sweep.states import SweepState

WAIT_S = 30.0
HEAD = "nodes: {here: {local: {}}}\n"


class Hook:
    """A web server that keeps what it is sent, and answers as told."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.answers: list[int] = []
        self.address = ""

    async def take(self, request: web.Request) -> web.Response:
        self.got.append((request.path, dict(request.headers), await request.json()))
        return web.Response(status=self.answers.pop(0) if self.answers else 200)


@pytest.fixture
async def hook() -> AsyncIterator[Hook]:
    hook, app = Hook(), web.Application()
    app.router.add_post("/{path:.*}", hook.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    hook.address = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield hook
    await runner.cleanup()


@pytest.fixture
def store(tmp_path: Path) -> Any:
    store = Store(tmp_path / "racksack.db")
    yield store
    store.close()


async def ended(
    store: Store, notify: str = "[]", state: SweepState = SweepState.DONE, number: int = 7
) -> tuple[Sweep, Progress]:
    spec = parse_job(
        f"project: up\nname: back test\nentrypoint: m.py\nsubmission: s{number}\n"
        f"sweep: {{function: f, params: {{a: 1:9:1}}, notify: {notify}}}\n"
    )
    sweep = Sweep(id=number, owner="u", spec=spec, snapshot="", submitted_at_s=1.0, code="", points_total=9)
    now = time.time()
    progress = Progress(state=state, points=9, done=8, failed=1, started_at_s=now - 61, ended_at_s=now)
    await store.write(lambda connection: ledger.add_sweep(connection, sweep, progress))
    return sweep, progress


async def until(condition: Any, what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {WAIT_S} s: {what}"
        await asyncio.sleep(0.01)


def is_told(store: Store, number: int = 7) -> bool:
    def look(connection: sqlite3.Connection) -> bool:
        return bool(connection.execute("SELECT told FROM sweeps WHERE id = ?", (number,)).fetchone()[0])

    return store.look(look)


def notifier(store: Store, *channels: Channel) -> Notifier:
    made = Notifier(store, {channel.name: channel for channel in channels}, "http://rack:8470/")
    made.first_wait_s = 0.01
    return made


async def test_a_webhook_hears_all_about_it(store: Store, hook: Hook) -> None:
    made = notifier(store, Channel(name="hook", webhook=f"{hook.address}/in"))
    made.ended(*await ended(store))
    await until(lambda: is_told(store), "it is told")
    [(path, _, body)] = hook.got
    assert path == "/in"
    assert body["sentence"] == "sweep 7 (back test) done in 1m01s: 8 of 9 points, 1 failed"
    assert (body["sweep"], body["state"], body["done"], body["url"]) == (7, "done", 8, "http://rack:8470/sweeps/7")


async def test_telegram_and_a_secret_from_a_file(store: Store, hook: Hook, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("12345:abc\n")
    url = f"{hook.address}/bot{{token}}/sendMessage"
    telegram = Channel(name="t", webhook=url, format="telegram", chat="-100", token_file=secret)
    bearer = Channel(name="b", webhook=f"{hook.address}/x", format="text", token_file=secret)
    made = notifier(store, telegram, bearer)
    made.ended(*await ended(store))
    await until(lambda: is_told(store), "it is told")
    got = {path: (headers, body) for path, headers, body in hook.got}
    assert got["/bot12345:abc/sendMessage"][1]["chat_id"] == "-100"
    assert got["/bot12345:abc/sendMessage"][1]["text"].startswith("sweep 7")
    assert got["/x"][0]["Authorization"] == "Bearer 12345:abc"
    assert set(got["/x"][1]) == {"text"}


async def test_what_fails_is_tried_again_and_what_is_refused_is_not(
    store: Store, hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    hook.answers = [503, 429, 200]
    made = notifier(store, Channel(name="hook", webhook=f"{hook.address}/a"))
    made.ended(*await ended(store))
    await until(lambda: is_told(store), "it is told at the third try")
    assert len(hook.got) == 3
    hook.answers = [404, 200]
    made.ended(*await ended(store, number=8))
    await until(lambda: is_told(store, 8), "it is given up")
    assert len(hook.got) == 4
    assert "answered 404; given up" in caplog.text


async def test_a_dead_end_is_given_up_and_holds_nobody_up(store: Store) -> None:
    made = notifier(store, Channel(name="hook", webhook="http://127.0.0.1:9/none"))
    made.first_wait_s = 0.0
    began = time.monotonic()
    made.ended(*await ended(store))
    assert time.monotonic() - began < 0.5, "it returns at once"
    await until(lambda: is_told(store), "it is given up")


async def test_who_is_told(store: Store, hook: Hook) -> None:
    made = notifier(
        store,
        Channel(name="all", webhook=f"{hook.address}/all"),
        Channel(name="failures", webhook=f"{hook.address}/failures", when=("failed",)),
        Channel(name="asked", webhook=f"{hook.address}/asked", of_all=False),
    )
    for number, (notify, state) in enumerate(
        [
            ("[]", SweepState.DONE),
            ("[]", SweepState.FAILED),
            ("[asked]", SweepState.DONE),
            ("[]", SweepState.CANCELLED),
        ],
        1,
    ):
        made.ended(*await ended(store, notify, state, number))
        await until(lambda number=number: is_told(store, number), "it is told")
    assert [(path, body["sweep"]) for path, _, body in sorted(hook.got, key=lambda one: (one[2]["sweep"], one[0]))] == [
        ("/all", 1),
        ("/all", 2),
        ("/failures", 2),
        ("/asked", 3),
    ]


async def test_what_a_killed_controller_did_not_tell_is_told_after_its_restart(store: Store, hook: Hook) -> None:
    await ended(store)
    sweep, progress = await ended(store, number=8)
    old = replace(progress, ended_at_s=time.time() - 10 * 86400)
    await store.write(lambda connection: ledger.save_progress(connection, sweep.id, old))
    made = notifier(store, Channel(name="hook", webhook=f"{hook.address}/a"))
    await made.open()
    await until(lambda: is_told(store), "it is told")
    await made.open()
    await asyncio.sleep(0)
    assert [body["sweep"] for _, _, body in hook.got] == [7]


async def test_a_command(store: Store, tmp_path: Path) -> None:
    script = tmp_path / "tell"
    out = tmp_path / "out"
    script.write_text(f'#!/bin/sh\necho "$1 $RACKSACK_SWEEP $RACKSACK_SENTENCE" > {out}\ncat >> {out}\n')
    script.chmod(0o755)
    made = notifier(store, Channel(name="c", command=(str(script), "$(id); x")))
    made.ended(*await ended(store))
    await until(lambda: is_told(store), "it is told")
    first, rest = out.read_text().split("\n", 1)
    assert first.startswith("$(id); x 7 sweep 7 (back test) done")
    assert json.loads(rest)["sweep"] == 7


class Mailbox:
    """As much of a mail server as a message needs; refuses the first one when told to."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.recipients: list[str] = []
        self.refusals = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 here ESMTP\r\n")
        while line := (await reader.readline()).decode().strip():
            verb = line.upper()
            if verb.startswith("EHLO"):
                writer.write(b"250-here\r\n250 SIZE 1000000\r\n")
            elif verb == "DATA":
                writer.write(b"354 go on\r\n")
                lines = []
                while (part := (await reader.readline()).decode()) != ".\r\n":
                    lines.append(part)
                self.messages.append("".join(lines))
                writer.write(b"250 kept\r\n")
            elif verb == "QUIT":
                writer.write(b"221 bye\r\n")
                break
            elif verb.startswith("MAIL") and self.refusals:
                self.refusals -= 1
                writer.write(b"451 later\r\n")
            else:
                self.recipients += [line] if verb.startswith("RCPT") else []
                writer.write(b"250 fine\r\n")
        writer.close()


async def test_mail(store: Store) -> None:
    box = Mailbox()
    box.refusals = 1
    server = await asyncio.start_server(box.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    channel = Channel(
        name="m", email=("a@example.org", "b@example.org"), sender="r@example.org", smtp=("127.0.0.1", port)
    )
    made = notifier(store, channel)
    made.ended(*await ended(store))
    await until(lambda: is_told(store), "it is told at the second try")
    server.close()
    [message] = box.messages
    assert "Subject: racksack: sweep 7 (back test) done" in message
    assert "To: a@example.org, b@example.org" in message
    assert len(box.recipients) == 2


def test_the_configuration_says_who() -> None:
    text = f"""{HEAD}notify:
  me: {{email: [a@example.org], smtp: "mail.example.org", user: u, password_file: /p, security: tls}}
  bot: {{webhook: "https://api.telegram.org/bot{{token}}/sendMessage", format: telegram, chat: "-1", token_file: /t}}
  script: {{command: [/bin/tell, "a b"], when: failed, sweeps: asked}}
"""
    channels = parse_config(text).notify
    assert channels["me"].smtp == ("mail.example.org", 465)
    assert channels["bot"].format == "telegram"
    assert channels["script"] == Channel(name="script", command=("/bin/tell", "a b"), when=("failed",), of_all=False)


@pytest.mark.parametrize(
    ("channel", "sentence"),
    [
        ("{}", "has no webhook, email or command"),
        ("{email: a@b.org, command: x}", "write exactly one of"),
        ("{webhook: ftp://x}", "is not an address"),
        ("{webhook: 'https://u:p@x/y'}", "holds a password"),
        ("{webhook: 'https://x', format: telegram}", "which chat"),
        ("{webhook: 'https://x/{token}'}", "add token_file"),
        ("{email: nobody}", "is not a mail address"),
        ("{email: a@b.org, user: me}", "needs both user and password_file"),
    ],
)
def test_mistakes_in_the_configuration(channel: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(f"{HEAD}notify: {{x: {channel}}}\n")
    assert sentence in str(caught.value)
