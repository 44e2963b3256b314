"""What happened is told: over real HTTP and SMTP, by a command, again after failures, and after a restart."""

from __future__ import annotations

import asyncio
import contextlib
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
from racksack_controller.config.notify import Channel, quiet_until_s
from racksack_controller.core.power_policy import DAY_S, Window, second_of_day
from racksack_controller.core.state import Changes, Job, State
from racksack_controller.core.sweeps.records import Progress, Sweep
from racksack_controller.notify import outbox
from racksack_controller.notify.notifier import Notifier
from racksack_controller.store import Store
from racksack_controller.sweeps.results import ledger
from racksack_jobspecs.parse import parse_job
from racksack_jobspecs.resources import SetAsideGpu
from racksack_jobspecs.states import JobState
from racksack_jobspecs.sweep.states import SweepState
from tests.core.builders import gpus, inventory, job, node

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


def settled(store: Store) -> list[str]:
    """The keys of notices that were sent or given up."""
    sql = "SELECT key FROM notices WHERE settled_at_s IS NOT NULL ORDER BY id"
    return [row[0] for row in store.look(lambda connection: connection.execute(sql).fetchall())]


def pending(store: Store) -> int:
    sql = "SELECT count(*) FROM notices WHERE settled_at_s IS NULL"
    return int(store.look(lambda connection: connection.execute(sql).fetchone()[0]))


@contextlib.asynccontextmanager
async def telling(
    store: Store, *channels: Channel, state: State | None = None, **open_: Any
) -> AsyncIterator[Notifier]:
    made = Notifier(store, state or State(), {channel.name: channel for channel in channels})
    made.first_wait_s, made.gather_s, made.web_address = 0.01, 0.05, "http://rack:8470/"
    await made.open(**open_)
    yield made
    await made.close()


async def test_a_webhook_hears_all_about_it(store: Store, hook: Hook) -> None:
    async with telling(store, Channel(name="hook", webhook=f"{hook.address}/in")) as made:
        made.ended(*await ended(store))
        await until(lambda: settled(store), "it is told")
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
    async with telling(store, telegram, bearer) as made:
        made.ended(*await ended(store))
        await until(lambda: len(settled(store)) == 2, "both are told")
    got = {path: (headers, body) for path, headers, body in hook.got}
    assert got["/bot12345:abc/sendMessage"][1]["chat_id"] == "-100"
    assert got["/bot12345:abc/sendMessage"][1]["text"].startswith("sweep 7")
    assert got["/x"][0]["Authorization"] == "Bearer 12345:abc"
    assert set(got["/x"][1]) == {"text"}


async def test_what_fails_is_tried_again_and_what_is_refused_is_not(
    store: Store, hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    hook.answers = [503, 429, 200]
    async with telling(store, Channel(name="hook", webhook=f"{hook.address}/a")) as made:
        made.ended(*await ended(store))
        await until(lambda: settled(store), "it is told at the third try")
        assert len(hook.got) == 3
        hook.answers = [404, 200]
        made.ended(*await ended(store, number=8))
        await until(lambda: len(settled(store)) == 2, "it is given up")
    assert len(hook.got) == 4
    assert "answered 404; giving up" in caplog.text


async def test_a_dead_end_keeps_what_it_was_not_told_and_holds_nobody_up(store: Store, hook: Hook) -> None:
    dead = Channel(name="dead", webhook="http://127.0.0.1:9/none")
    async with telling(store, dead, Channel(name="hook", webhook=f"{hook.address}/a")) as made:
        made.ended(*await ended(store))
        await until(lambda: settled(store), "the other one is told")
    assert (len(hook.got), pending(store)) == (1, 1)


async def test_who_is_told(store: Store, hook: Hook) -> None:
    channels = (
        Channel(name="all", webhook=f"{hook.address}/all"),
        Channel(name="failures", webhook=f"{hook.address}/failures", when=("failed",)),
        Channel(name="asked", webhook=f"{hook.address}/asked", of_all=False),
    )
    cases = [
        ("[]", SweepState.DONE),
        ("[]", SweepState.FAILED),
        ("[asked]", SweepState.DONE),
        ("[]", SweepState.CANCELLED),
    ]
    async with telling(store, *channels) as made:
        for number, (notify, state) in enumerate(cases, 1):
            made.ended(*await ended(store, notify, state, number))
        await until(lambda: len(settled(store)) == 4, "all are told")
    assert sorted((body["sweep"], path) for path, _, body in hook.got) == [
        (1, "/all"), (2, "/all"), (2, "/failures"), (3, "/asked")
    ]  # fmt: skip


async def test_what_a_killed_controller_did_not_tell_is_told_after_its_restart(store: Store, hook: Hook) -> None:
    await ended(store)
    sweep, progress = await ended(store, number=8)
    old = replace(progress, ended_at_s=time.time() - 10 * 86400)
    await store.write(lambda connection: ledger.save_progress(connection, sweep.id, old))
    channel = Channel(name="hook", webhook=f"{hook.address}/a", rack=True)
    async with telling(store, channel, after_crash=True):
        await until(lambda: len(settled(store)) == 2, "both are told")
    async with telling(store, channel):
        await asyncio.sleep(0.2)
    assert [body.get("sweep") for _, _, body in hook.got] == [7, None]
    assert "after a crash" in hook.got[1][2]["sentence"]


async def test_a_command(store: Store, tmp_path: Path) -> None:
    script = tmp_path / "tell"
    out = tmp_path / "out"
    script.write_text(f'#!/bin/sh\necho "$1 $RACKSACK_SWEEP $RACKSACK_SENTENCE" > {out}\ncat >> {out}\n')
    script.chmod(0o755)
    async with telling(store, Channel(name="c", command=(str(script), "$(id); x"))) as made:
        made.ended(*await ended(store))
        await until(lambda: settled(store), "it is told")
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
    async with telling(store, channel) as made:
        made.ended(*await ended(store))
        await until(lambda: settled(store), "it is told at the second try")
    server.close()
    [message] = box.messages
    assert "Subject: racksack: sweep 7 (back test) done" in message
    assert "To: a@example.org, b@example.org" in message
    assert len(box.recipients) == 2


def changes(*jobs: Job, **others: Any) -> Changes:
    return Changes(jobs=jobs, attempts=(), nodes=(), events=(), **others)


def over(number: int, state: JobState = JobState.FAILED, **spec: Any) -> Job:
    return job(number, state=state, key=f"k{number}", reason="exit code 1", ended_at_s=time.time(), **spec)


async def test_jobs_are_told_to_those_whom_they_name(store: Store, hook: Hook) -> None:
    channels = [Channel(name=name, webhook=f"{hook.address}/{name}", when=("done", "failed")) for name in ("me", "you")]
    channels.append(Channel(name="everything", webhook=f"{hook.address}/everything", when=("failed",), jobs="all"))
    async with telling(store, *channels) as made:
        made.changed(changes(over(1, notify=("me",)), over(2, JobState.DONE, notify=("me:failed", "you"))))
        made.changed(changes(over(3), over(4, JobState.DONE), over(5, JobState.RUNNING, notify=("me",))))
        made.changed(changes(over(3)))  # saved once more: it is the same end
        await until(lambda: len(settled(store)) == 3, "all are told")
    assert sorted((path, body["job"]) for path, _, body in hook.got) == [("/everything", 3), ("/me", 1), ("/you", 2)]
    [sentence] = [body["sentence"] for path, _, body in hook.got if path == "/me"]  # channels are told at once
    assert sentence.endswith("failed: exit code 1")


async def test_five_hundred_failures_are_one_digest(store: Store, hook: Hook) -> None:
    async with telling(store, Channel(name="hook", webhook=f"{hook.address}/a", jobs="all")) as made:
        for first in range(1, 501, 50):
            made.changed(changes(*(over(number) for number in range(first, first + 50))))
        await until(lambda: len(settled(store)) == 500, "all are told")
    told = [body for _, _, body in hook.got if body["event"] == "digest"]
    assert len(hook.got) <= 3
    assert sum(len(body["notices"]) for body in told) + len(hook.got) - len(told) == 500
    assert told[0]["sentence"].splitlines()[0].endswith("x job failed")
    assert told[0]["sentence"].splitlines()[-1].startswith("... and ")


async def test_a_receiver_that_is_down_for_a_day_gets_each_notice_once(store: Store, hook: Hook) -> None:
    hook.answers = [503] * 5
    channel = Channel(name="hook", webhook=f"{hook.address}/a", jobs="all")
    async with telling(store, channel) as made:
        made.changed(changes(over(1)))
        await until(lambda: len(hook.got) >= 2, "it was tried")
    async with telling(store, channel) as made:  # the controller was restarted meanwhile
        made.changed(changes(*(over(number) for number in range(2, 7))))
        await until(lambda: len(settled(store)) == 6, "all are told")
    *refused, last = [body for _, _, body in hook.got]
    assert len(refused) == 5
    keys = [one["key"] for one in last["notices"]] if last["event"] == "digest" else [last["key"]]
    assert len(set(keys)) == len(keys)


async def test_nothing_is_sent_in_quiet_hours(store: Store, hook: Hook) -> None:
    minute = int(second_of_day(time.time())) // 60 * 60
    quiet = Window((minute - 3600) % DAY_S, (minute + 3600) % DAY_S)
    loud = Channel(name="loud", webhook=f"{hook.address}/loud", jobs="all")
    async with telling(
        store, loud, replace(loud, name="hook", webhook=f"{hook.address}/quiet", quiet=(quiet,))
    ) as made:
        made.changed(changes(over(1)))
        await until(lambda: settled(store), "the other one is told")
        assert [path for path, _, _ in hook.got] == ["/loud"]
        assert pending(store) == 1
    until_s = quiet_until_s(replace(loud, quiet=(quiet,)), time.time())
    assert until_s is not None
    assert 0 < until_s - time.time() <= 3660


async def test_an_owner_is_told_of_nodes(store: Store, hook: Hook) -> None:
    state = State()
    bad = SetAsideGpu(3, "GPU-3", "nvidia", "RTX 3090", 1, fault="is too hot")
    well = node("n1", inventory=inventory(devices=gpus(2)))
    state.put_node(well)
    async with telling(store, Channel(name="hook", webhook=f"{hook.address}/a", rack=True), state=state) as made:
        assert well.inventory is not None
        ill = replace(well, inventory=replace(well.inventory, set_aside=(bad,)))
        state.put_node(ill)
        made.changed(Changes(jobs=(), attempts=(), nodes=(ill,), events=()))
        made.changed(Changes(jobs=(), attempts=(), nodes=(ill,), events=()))
        await until(lambda: settled(store), "it is told")
    [(_, _, body)] = hook.got
    assert body["sentence"] == "n1: GPU 3 (RTX 3090) is too hot; it is set aside"


async def test_old_and_orphaned_notices_go(store: Store) -> None:
    def fill(connection: sqlite3.Connection) -> None:
        outbox.add(connection, [("gone", {"key": "a", "sentence": ""}), ("here", {"key": "b", "sentence": ""})], 1e9)
        outbox.add(connection, [("here", {"key": "c", "sentence": ""})], 1e9 + outbox.KEEP_S)

    await store.write(fill)
    assert await store.write(lambda connection: outbox.prune(connection, ["here"], 1e9 + outbox.KEEP_S + 1)) == 2
    assert [one.facts["key"] for one in await store.read(lambda c: outbox.pending(c, "here", 9))] == ["c"]
    await store.write(lambda connection: outbox.prune(connection, ["here"], 1e9 + 3 * outbox.KEEP_S))
    assert pending(store) == 0


async def test_a_channel_that_hears_nothing_fills_no_disk(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "PENDING_MAX", 5)
    wanted = [("dead", {"key": str(number), "sentence": ""}) for number in range(9)]
    assert await store.write(lambda connection: outbox.add(connection, wanted, 1.0)) == 5


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
        ("{webhook: 'https://u:p@x/y'}", "contains a password"),
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
