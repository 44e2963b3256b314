"""A conversation with a real `serve` process, for tests: requests, replies, and reports as they come."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

import racksack_agent
from racksack_jobspecs.environments.plan import plan_of
from racksack_jobspecs.snapshot import digest_of, manifest_of
from racksack_jobspecs.spec import Environment

PACKAGE = Path(racksack_agent.__file__).parent
PYTHON = "/usr/bin/python3"
WAIT_S = 60.0


class Refused(Exception):  # noqa: N818 - reads well in tests
    """The agent answered ok: false."""

    def __init__(self, reply: dict[str, Any]) -> None:
        super().__init__(reply["error"])
        self.kind = reply["kind"]


class Serve:
    """One `serve` process on a home."""

    def __init__(
        self,
        home: Path,
        *options: str,
        env: dict[str, str] | None = None,
        package: Path = PACKAGE,
        user: int | None = None,
    ) -> None:
        """`user`: who runs it, where that is not us; `package` must then be readable to that one."""
        self.home = home
        self._process = subprocess.Popen(
            [PYTHON, "-I", "-S", str(package / "__main__.py"), "serve", "--home", str(home), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **(env or {})},
            user=user,
            group=user,
            extra_groups=None if user is None else [],
        )
        self.reports: dict[str, dict[str, Any]] = {}
        self.seen: list[tuple[str, str]] = []
        self.result_bytes: dict[str, int] = {}
        self._replies: dict[Any, dict[str, Any]] = {}
        self._changed = threading.Condition()
        self._last_id = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            message = json.loads(line)
            with self._changed:
                if "report" in message:
                    report = message["report"]
                    self.reports[report["attempt"]] = report
                    self.seen.append((report["attempt"], report["state"]))
                elif "results" in message:
                    self.result_bytes[message["results"]["attempt"]] = message["results"]["size"]
                else:
                    self._replies[message["id"]] = message
                self._changed.notify_all()

    def send(self, data: bytes) -> None:
        assert self._process.stdin
        self._process.stdin.write(data)
        self._process.stdin.flush()

    def reply(self, request_id: Any, timeout_s: float = WAIT_S) -> dict[str, Any]:
        self.wait(lambda: request_id in self._replies, timeout_s)
        return self._replies.pop(request_id)

    def call(self, op: str, timeout_s: float = WAIT_S, **arguments: Any) -> Any:
        self._last_id += 1
        self.send(json.dumps({"id": self._last_id, "op": op, **arguments}).encode() + b"\n")
        reply = self.reply(self._last_id, timeout_s)
        if not reply["ok"]:
            raise Refused(reply)
        return reply["result"]

    def wait(self, condition: Callable[[], bool], timeout_s: float = WAIT_S) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, timeout_s), f"waited {timeout_s} s; reports: {self.reports}"

    def ended(self, attempt: str, timeout_s: float = WAIT_S) -> dict[str, Any]:
        self.wait(lambda: self.reports.get(attempt, {}).get("state") == "ended", timeout_s)
        return self.reports[attempt]

    def running(self, attempt: str) -> dict[str, Any]:
        self.wait(lambda: self.reports.get(attempt, {}).get("state") in ("running", "ended"))
        assert self.reports[attempt]["state"] == "running", self.reports[attempt]
        return self.reports[attempt]

    def project(self, folder: Path) -> str:
        """Bring a project to the node; its digest."""
        digest = digest_of(manifest_of(folder))
        self.call("put", digest=digest, tar_b64=pack(folder))
        return digest

    def launch(self, *orders: dict[str, Any]) -> list[dict[str, Any]]:
        replies = self.call("launch", orders=list(orders))
        assert all(reply["ok"] for reply in replies), replies
        return replies

    def run(self, launched: dict[str, Any], timeout_s: float = WAIT_S) -> dict[str, Any]:
        """Launch one attempt and wait for its end."""
        self.launch(launched)
        return self.ended(launched["attempt"], timeout_s)

    def out(self, attempt: str, name: str = "stdout.log") -> str:
        return (self.home / "attempts" / attempt / "out" / name).read_text(errors="surrogateescape")

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(10)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)


def planned(folder: Path, entrypoint: str = "main.py", **wanted: Any) -> dict[str, Any]:
    """The environment of an order for a project, as the controller chooses it."""
    plan: dict[str, Any] = msgspec.to_builtins(plan_of(folder, entrypoint, Environment(**wanted)))
    return plan


def pack(folder: Path) -> str:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", errors="surrogateescape") as archive:
        archive.add(folder, arcname=".")
    return base64.b64encode(stream.getvalue()).decode()


def order(attempt: str, digest: str, entrypoint: str, *args: str, **more: Any) -> dict[str, Any]:
    """A LaunchOrder with the usual values."""
    base = {
        "attempt": attempt, "job_id": attempt.split(".")[0], "name": "test", "node": "here", "digest": digest,
        "entrypoint": entrypoint, "args": list(args), "env": {}, "node_env": {}, "cpus": 0.5, "ram_bytes": 1 << 30,
        "gpus": [], "time_limit_s": None, "outputs": [],
        "environment": {"kind": "plain" if entrypoint.endswith(".py") else "none"},
        "max_output_bytes": 1 << 30, "stage_in_ram": [], "sweep": None, "submitted_at_s": time.time(), "grace_s": 2.0,
    }  # fmt: skip
    return {**base, **more}
