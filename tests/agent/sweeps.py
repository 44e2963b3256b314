"""A sweep's runner on a real `serve`: plans, chunks, and results as Python values."""

from __future__ import annotations

import base64
import struct
import sys
import zlib
from array import array
from pathlib import Path
from typing import Any

from racksack_agent.sweep_runner.frames import Splitter
from tests.agent.processes import wait_until
from tests.agent.serving import Serve, order


def function(file: str, name: str, **fixed: Any) -> dict[str, Any]:
    return {"kind": "function", "file": file, "name": name, "fixed": fixed}


def grid(**axes: list[Any]) -> dict[str, Any]:
    return {"kind": "grid", "names": list(axes), "axes": list(axes.values())}


class Sweep:
    """One runner, and all that it has told."""

    def __init__(self, serve: Serve, project: Path, target: dict[str, Any], space: dict[str, Any], **more: Any) -> None:
        self.serve = serve
        self.attempt = more.pop("attempt", "1.1")
        self.frames: list[tuple[dict[str, Any], bytes]] = []
        self._offset = 0
        self._splitter = Splitter()
        wanted = {"slots": 2, "metric": "value", "point_timeout_s": None, "runs": [{"env": {}, "fixed": {}}]}
        plan = {"target": target, "space": space, **{name: more.pop(name, value) for name, value in wanted.items()}}
        plain = {"cpus": 0.5, "environment": {"kind": "none"}}
        entry = target.get("file") or next(path.name for path in project.iterdir())
        serve.launch(order(self.attempt, serve.project(project), entry, sweep=plan, **{**plain, **more}))

    def feed(self, number: int, **chunk: Any) -> None:
        self.serve.running(self.attempt)
        self.serve.call("feed", attempt=self.attempt, chunks=[{"chunk": number, **chunk}])

    def finish(self) -> dict[str, Any]:
        self.serve.call("control", attempt=self.attempt, finish=True)
        report = self.serve.ended(self.attempt)
        self.pull()
        return report

    def pull(self) -> None:
        while True:
            reply = self.serve.call("results", attempt=self.attempt, offset=self._offset, limit=1 << 22, zlib=True)
            data = base64.b64decode(reply["data_b64"])
            data = zlib.decompress(data) if reply["zlib"] else data
            self._offset += len(data)
            self.frames += [(header, body) for header, body, _ in self._splitter.feed(data)]
            if not data:
                return

    def until(self, points: int) -> None:
        """Wait until so many points have an outcome."""

        def come() -> bool:
            self.pull()
            report = self.serve.reports[self.attempt]
            assert report["state"] == "running", report
            return len(self.results()) + len(self.failures()) >= points

        wait_until(come)

    def until_all_workers_are_up(self) -> None:
        """Wait until the runner has said so."""

        def told() -> bool:
            self.pull()
            return bool(self.of_kind("ready"))

        wait_until(told)

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        return [header for header, _ in self.frames if header["k"] == kind]

    def results(self) -> dict[int, dict[str, Any]]:
        """Metrics by point; a point that was told twice fails the test."""
        found: dict[int, dict[str, Any]] = {}
        for header, body in self.frames:
            if header["k"] == "ok":
                new = rows(header, body)
                assert not set(new) & set(found)
                found.update(new)
        return found

    def failures(self) -> dict[int, tuple[str, str]]:
        """Kind and sentence by point."""
        listed = [entry for header in self.of_kind("fail") for entry in header["p"]]
        found = {point: (kind, sentence) for point, kind, sentence, _ in listed}
        assert len(found) == len(listed)
        return found


def rows(header: dict[str, Any], body: bytes) -> dict[int, dict[str, Any]]:
    import json

    assert sys.byteorder == "little"
    count, at = header["n"], 0
    if "lo" in header:
        points = list(range(header["lo"], header["lo"] + count))
    else:
        points, at = list(struct.unpack_from(f"<{count}q", body)), 8 * count
    at += header["t"]
    found: dict[int, dict[str, Any]] = {point: {} for point in points}
    for name, kind, size in header["cols"]:
        data = body[at : at + size]
        values = json.loads(data) if kind == "j" else array(kind, data).tolist()
        for point, value in zip(points, values, strict=True):
            found[point][name] = value
        at += size
    assert at == len(body)
    return found
