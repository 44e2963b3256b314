"""The `notify` block of racksack.yaml: who is told of what, by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from racksack_controller.config.named_blocks import named_blocks
from racksack_controller.config.windows import window_of
from racksack_controller.core.power_policy import DAY_S, Window, second_of_day
from racksack_jobspecs.readers import (
    FLAG,
    TEXT,
    Field,
    Kind,
    Report,
    list_of,
    one_of,
    sequence_of,
    shown,
    word_of,
)
from racksack_jobspecs.yamltext import Mapping as Block
from racksack_jobspecs.yamltext import Node

_ADDRESS = re.compile(r"[^\s@<>,;]+@[A-Za-z0-9.-]+")
_SMTP = re.compile(r"([A-Za-z0-9.:-]+?)(?::([0-9]{1,5}))?")
PORTS = {"tls": 465, "starttls": 587, "none": 25}


def _url(node: Node, _path: str, _report: Report) -> str:
    word = word_of(node)
    parts = urlsplit(word)
    if parts.scheme not in ("http", "https") or not parts.hostname or not word.isprintable():
        raise ValueError(f"{shown(word)} is not an address; write one that begins with https://")
    if parts.username or parts.password:
        raise ValueError("this contains a password that everybody who can read this file sees; use token_file")
    return word


def _file(node: Node, _path: str, _report: Report) -> Path:
    path = Path(word_of(node))
    if not path.is_absolute():
        raise ValueError(f"{shown(str(path))} is not an absolute path; write one that begins with /")
    return path


def _address(node: Node, _path: str, _report: Report) -> str:
    word = word_of(node)
    if not _ADDRESS.fullmatch(word) or not word.isprintable():
        raise ValueError(f"{shown(word)} is not a mail address; write one such as alice@example.org")
    return word


def _smtp(node: Node, _path: str, _report: Report) -> tuple[str, int | None]:
    word = word_of(node)
    match = _SMTP.fullmatch(word)
    if match is None or not 0 < int(match[2] or 1) < 65536:
        raise ValueError(f"{shown(word)} is not a mail server; write its host, or host:port")
    return match[1], int(match[2]) if match[2] else None


NOTIFY_FIELDS = (
    Field("webhook", Kind(_url, {}), "Send a POST there.", "https://example.org/hook", "no webhook"),
    Field(
        "format",
        one_of("json", "telegram", "text"),
        "Format of the POST: everything as JSON; Telegram's sendMessage; or {text: sentence}, as Slack expects it.",
        "telegram",
        "json",
    ),
    Field("chat", TEXT, "Telegram's chat_id.", '"-1001234567"', "none"),
    Field(
        "token_file",
        Kind(_file, {}),
        "A secret: in the place of {token} in the webhook, else as Authorization: Bearer.",
        "/etc/racksack/bot-token",
        "none",
    ),
    Field("email", list_of(Kind(_address, {})), "Send a mail to these.", "[alice@example.org]", "no mail"),
    Field("smtp", Kind(_smtp, {}), "The mail server, with its port.", "mail.example.org:587", "localhost"),
    Field("from", Kind(_address, {}), "The sender.", "racksack@example.org", "the first recipient"),
    Field(
        "security",
        one_of("starttls", "tls", "none"),
        "Encryption of the connection to the mail server.",
        "tls",
        "starttls",
    ),
    Field("user", TEXT, "User name for the mail server.", "racksack", "no login"),
    Field("password_file", Kind(_file, {}), "The password of that user.", "/etc/racksack/mail-password", "none"),
    Field(
        "command",
        sequence_of(TEXT),
        "Command to run on the controller, without a shell: JSON on stdin, the sentence in RACKSACK_SENTENCE.",
        "[/usr/local/bin/tell]",
        "no command",
    ),
    Field(
        "when",
        list_of(one_of("done", "failed", "cancelled"), splits_at_commas=True),
        "At which ends.",
        "[failed]",
        "[done, failed]",
    ),
    Field("sweeps", one_of("all", "asked"), "All sweeps, or only those that name it.", "asked", "all"),
    Field("jobs", one_of("all", "asked"), "All jobs, or only those that name it (`--notify`).", "all", "asked"),
    Field(
        "rack",
        FLAG,
        "Nodes that are set aside or lost, GPUs that are set aside, and restarts of the controller after a crash.",
        "yes",
        "no",
    ),
    Field(
        "quiet",
        list_of(Kind(window_of, {"type": "string"})),
        "Nothing is sent in these hours; one digest follows at their end.",
        '["22:00-07:00"]',
        "none",
    ),
)


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """One way to tell somebody."""

    name: str
    webhook: str | None = None
    format: str = "json"
    chat: str = ""
    token_file: Path | None = None
    email: tuple[str, ...] = ()
    smtp: tuple[str, int] = ("localhost", 25)
    sender: str = ""
    security: str = "none"
    user: str | None = None
    password_file: Path | None = None
    command: tuple[str, ...] = ()
    when: tuple[str, ...] = ("done", "failed")
    of_all: bool = True  # sweeps
    jobs: str = "asked"
    rack: bool = False
    quiet: tuple[Window, ...] = ()


def quiet_until_s(channel: Channel, now_s: float) -> float | None:
    """Until when nothing is to be sent, in Unix seconds; None outside of the channel's quiet hours."""
    ends = [now_s + (window.end_s - second_of_day(now_s)) % DAY_S for window in channel.quiet]
    is_quiet = any(window.holds(second_of_day(now_s)) for window in channel.quiet)
    return min(ends) if is_quiet else None


def channels_of(block: Block, report: Report) -> dict[str, Channel]:
    """All channels by name."""
    found: dict[str, Channel] = {}
    for one in named_blocks(block, "notify", "a channel's name", NOTIFY_FIELDS, report):
        _check(one.line, one.path, one.values, report)
        found[one.name] = _channel(one.name, one.values)
    return found


def _check(line: int, where: str, values: Mapping[str, Any], report: Report) -> None:
    ways = [way for way in ("webhook", "email", "command") if values.get(way)]
    if len(ways) != 1:
        wrong = "has no webhook, email or command" if not ways else f"has {' and '.join(ways)}"
        report.add(line, where, f"{wrong}; write exactly one of webhook, email and command")
    if values.get("format") == "telegram" and "chat" not in values:
        report.add(line, where, "does not say which chat; add chat: with Telegram's chat_id")
    if "{token}" in values.get("webhook", "") and "token_file" not in values:
        report.add(line, where, "has {token} in its webhook; add token_file: with the file that holds it")
    if ("user" in values) != ("password_file" in values):
        report.add(line, where, "needs both user and password_file, or neither")


def _channel(name: str, values: Mapping[str, Any]) -> Channel:
    host, port = values.get("smtp", ("localhost", None))
    security = values.get("security", "none" if "smtp" not in values else "starttls")
    recipients = values.get("email", ())
    return Channel(
        name=name,
        webhook=values.get("webhook"),
        format=values.get("format", "json"),
        chat=values.get("chat", ""),
        token_file=values.get("token_file"),
        email=recipients,
        smtp=(host, port or PORTS[security]),
        sender=values.get("from", recipients[0] if recipients else ""),
        security=security,
        user=values.get("user"),
        password_file=values.get("password_file"),
        command=values.get("command", ()),
        when=values.get("when", ("done", "failed")),
        of_all=values.get("sweeps", "all") == "all",
        jobs=values.get("jobs", "asked"),
        rack=values.get("rack", False),
        quiet=values.get("quiet", ()),
    )
