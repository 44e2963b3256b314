"""A controller that was taken over answers the laptop: whatever it says, nothing steers the terminal and every command
ends in sentences. A proxy before a real controller changes its answers.
"""

import asyncio
import json
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from tests.end_to_end.projects import make
from tests.end_to_end.site import Site

STEER = "\x1b]0;owned\x07\x1b[2J\u202e\x9b31m"
COMMANDS = """\
racksack status; racksack status 1; racksack nodes; racksack nodes here; racksack history; racksack why 2;
racksack data list; racksack every list; racksack power; racksack checkpoints 1; racksack usage;
racksack sweep top 3; racksack sweep points 3; racksack sweep importance 3; racksack cancel 2; racksack retry 1;
racksack drain here; racksack attach 2; racksack web; fetch-results 1; fetch-results --checkpoint 1;
racksack energy; racksack sweep status 3; submit PROJECT main.py --no-venv --dry-run"""


def steering(value: Any) -> Any:
    """The answer with every text but states steering a terminal: an answer with such a state is refused as a whole."""
    if isinstance(value, dict):
        return {name: one if name == "state" else steering(one) for name, one in value.items()}
    if isinstance(value, list):
        return [steering(one) for one in value]
    return value + STEER if isinstance(value, str) else value


def steering_states(value: Any) -> Any:
    """The answer with its states steering a terminal."""
    if isinstance(value, dict):
        return {name: f"{one}{STEER}" if name == "state" else steering_states(one) for name, one in value.items()}
    return list(map(steering_states, value)) if isinstance(value, list) else value


def odd(value: Any) -> Any:
    """The answer with numbers that are none of the kind that was meant."""
    if isinstance(value, dict):
        return {name: odd(one) for name, one in value.items()}
    if isinstance(value, list):
        return [odd(one) for one in value]
    return -(10**30) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


class Proxy:
    """Stands before a controller's socket, in a folder that looks like its spool."""

    def __init__(self, site: Site) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="rs-mm-", dir="/tmp"))
        for name in ("incoming", "jobs", "returns"):
            (self.folder / name).symlink_to(site.spool / name)
        self.change: Callable[[Any], Any] = lambda value: value
        self._real = str(site.spool / "controller.sock")
        self._loop = asyncio.new_event_loop()
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._up.wait(30)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._listen())
        self._loop.run_forever()

    async def _listen(self) -> None:
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", self._pass_on)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.UnixSite(runner, str(self.folder / "controller.sock")).start()
        self._up.set()

    async def _pass_on(self, request: web.Request) -> web.Response:
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(path=self._real), auto_decompress=False) as session,
            session.request(
                request.method, f"http://localhost{request.raw_path}", data=await request.read(),
                headers={"Content-Type": request.headers.get("Content-Type", "application/json")},
            ) as answer,
        ):  # fmt: skip
            data, headers = await answer.read(), {k: v for k, v in answer.headers.items() if k.startswith("Racksack")}
            kind = answer.content_type
            if kind == "application/json":
                data = json.dumps(self.change(json.loads(data))).encode()
            elif self.change is steering:
                data = (STEER.encode() + data)[: len(data)]  # of a log; its length counts
            return web.Response(body=data, status=answer.status, content_type=kind, headers=headers)

    def close(self) -> None:
        """End it."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        shutil.rmtree(self.folder)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    found = Site(
        "watch: {settle: 0.2s, rescan: 2s}\nweb: {listen: off}\nnodes: {here: {local: {}, cpus: 8, ram: 16G}}\n"
    )
    try:
        found.start()
        project = make(found.work / "p", "import sys\nprint('out')\nsys.exit('no')\n")
        (project / "m.py").write_text("def f(x):\n    return {'value': x}\n")
        assert found.submit(project, "--name", "n") == 1
        assert found.submit(project, "--hold") == 2
        found.wait_for(1, "failed")
        found.cli("racksack", "sweep", "run", str(project), "m.py:f", "--param", "x=1:4:1", "--no-venv", code=None)
        yield found
    finally:
        found.close()


@pytest.fixture(scope="module")
def proxy(site: Site) -> Iterator[Proxy]:
    found = Proxy(site)
    yield found
    found.close()


@pytest.mark.parametrize("change", [steering, steering_states, odd])
def test_no_answer_steers_the_terminal_or_ends_in_a_traceback(
    site: Site, proxy: Proxy, change: Callable[[Any], Any]
) -> None:
    proxy.change = change

    def told(command: str) -> str:
        words = command.replace("PROJECT", str(site.work / "p")).split()
        done = site.cli(*words, code=None, env={"RACKSACK_CONTROLLER": str(proxy.folder)}, timeout_s=60)
        return done.stdout + done.stderr

    with ThreadPoolExecutor(4) as pool:
        commands = [command.strip() for command in COMMANDS.split(";")]
        for command, text in zip(commands, pool.map(told, commands), strict=True):
            steers = [sign for sign in ("\x1b", "\x07", "\u202e", "\x9b") if sign in text]
            assert not steers, f"{command}: {text[-500:]!r}"
