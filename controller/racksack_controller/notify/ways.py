"""The three ways to tell somebody. Each raises NotTold with a sentence that holds no secret."""

from __future__ import annotations

import asyncio
import json
import os
import smtplib
import ssl
import tempfile
from email.message import EmailMessage
from typing import IO, Any

import aiohttp

from racksack_controller.config.notify import Channel
from racksack_controller.power.secret import Secret, SecretError

LIMIT_S = 30.0
TELEGRAM_CHARS_MAX = 4000


class NotTold(Exception):  # noqa: N818 - reads as what happened
    """It did not get there; `is_final` when another try would not either."""

    def __init__(self, sentence: str, *, is_final: bool = False) -> None:
        super().__init__(sentence)
        self.is_final = is_final


async def tell(channel: Channel, notice: dict[str, Any]) -> None:
    """Tell by one channel: `sentence` and the facts. Raises NotTold."""
    try:
        async with asyncio.timeout(LIMIT_S + 5.0):
            if channel.webhook is not None:
                await _post(channel, notice)
            elif channel.email:
                await asyncio.to_thread(_mail, channel, notice)
            else:
                await _run(channel, notice)
    except TimeoutError:
        raise NotTold(f"it did not answer within {LIMIT_S:.0f} s") from None
    except SecretError as error:
        raise NotTold(str(error)) from None


def body_of(channel: Channel, notice: dict[str, Any]) -> dict[str, Any]:
    """What a POST holds."""
    if channel.format == "telegram":
        text = notice["sentence"][:TELEGRAM_CHARS_MAX]
        return {"chat_id": channel.chat, "text": text, "disable_web_page_preview": True}
    return {"text": notice["sentence"]} if channel.format == "text" else notice


async def _post(channel: Channel, notice: dict[str, Any]) -> None:
    assert channel.webhook is not None  # noqa: S101 - the caller looked
    url, headers = channel.webhook, dict[str, str]()
    if channel.token_file is not None:
        token = Secret(file=channel.token_file).read()
        if "{token}" in url:
            url = url.replace("{token}", token)
        else:
            headers["Authorization"] = f"Bearer {token}"
    timeout = aiohttp.ClientTimeout(total=LIMIT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(url, json=body_of(channel, notice), headers=headers, allow_redirects=False) as answer,
        ):
            status = answer.status
    except aiohttp.ClientError as error:
        raise NotTold(f"the webhook cannot be reached ({type(error).__name__})") from None
    if status >= 300:
        raise NotTold(f"the webhook answered {status}", is_final=status < 500 and status not in (408, 429))


def _mail(channel: Channel, notice: dict[str, Any]) -> None:
    message = EmailMessage()
    message["Subject"] = f"racksack: {notice['sentence'].splitlines()[0]}"[:200]
    message["From"] = channel.sender
    message["To"] = ", ".join(channel.email)
    message.set_content(f"{notice['sentence']}\n\n{json.dumps(notice, indent=2, ensure_ascii=False)}\n")
    host, port = channel.smtp
    try:
        with _connected(channel, host, port) as server:
            if channel.user is not None and channel.password_file is not None:
                server.login(channel.user, Secret(file=channel.password_file).read())
            server.send_message(message)
    except smtplib.SMTPResponseException as error:
        is_final = 500 <= error.smtp_code < 600
        raise NotTold(f"the mail server {host} answered {error.smtp_code}", is_final=is_final) from None
    except (OSError, smtplib.SMTPException) as error:
        raise NotTold(f"the mail server {host} cannot be used ({error})") from None


def _connected(channel: Channel, host: str, port: int) -> smtplib.SMTP:
    if channel.security == "tls":
        return smtplib.SMTP_SSL(host, port, timeout=LIMIT_S, context=ssl.create_default_context())
    server = smtplib.SMTP(host, port, timeout=LIMIT_S)
    if channel.security == "starttls":
        try:
            server.starttls(context=ssl.create_default_context())
        except BaseException:
            server.close()
            raise
    return server


async def _run(channel: Channel, notice: dict[str, Any]) -> None:
    # A file and not a pipe: a program that does not read it is no error.
    with tempfile.TemporaryFile() as facts:
        facts.write(json.dumps(notice).encode())
        facts.seek(0)
        await _run_with(channel, notice, facts)


async def _run_with(channel: Channel, notice: dict[str, Any], facts: IO[bytes]) -> None:
    env = {**os.environ, "RACKSACK_SENTENCE": str(notice["sentence"]), "RACKSACK_EVENT": str(notice["event"])}
    for name in ("sweep", "job", "node"):
        if notice.get(name) is not None:
            env[f"RACKSACK_{name.upper()}"] = str(notice[name])
    try:
        process = await asyncio.create_subprocess_exec(
            *channel.command,
            stdin=facts,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env=env,
            start_new_session=True,
        )
    except OSError as error:
        raise NotTold(f"{channel.command[0]} could not be started: {error.strerror}") from None
    try:
        async with asyncio.timeout(LIMIT_S):
            await process.wait()
    except TimeoutError:
        raise NotTold(f"{channel.command[0]} took longer than {LIMIT_S:.0f} s and was ended") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise NotTold(f"{channel.command[0]} ended with code {process.returncode}")
