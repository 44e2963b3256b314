"""A small controller for tests of the client: real HTTP on a real unix socket, a real spool, and faults on request.

It accepts job files with the real parser and digests uploads with the real rule, but runs nothing: a test says what
becomes of a job. The real controller is used wherever no fault is injected (see test_with_controller.py).
"""

from __future__ import annotations

import json
import re
import shutil
import socketserver
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from racksack_jobspecs.array import expand
from racksack_jobspecs.parse import JobFileError, parse_job
from racksack_jobspecs.snapshot import digest_of, manifest_of
from racksack_jobspecs.spec import JobSpec

FINAL = {"done", "failed", "oom", "timeout", "cancelled", "lost", "prepare_failed", "stage_failed"}


@dataclass
class StandIn:
    """The state that tests look at and change."""

    spool: Path
    jobs: dict[int, dict[str, Any]] = field(default_factory=dict)
    submissions: dict[str, list[int]] = field(default_factory=dict)
    logs: dict[tuple[int, str], bytes] = field(default_factory=dict)
    specs: list[JobSpec] = field(default_factory=list)  # of the job files that were dropped
    nodes: list[dict[str, Any]] = field(default_factory=list)
    energy: dict[str, Any] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    posted: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    never: str | None = None
    version: str = version("racksack")
    ahead_s: float = 0.0  # by how much its clock is ahead
    status_jobs_max: int = 1000
    findings: list[dict[str, Any]] = field(default_factory=list)  # what it finds out about itself
    cut_next: int = 0  # so many answers are broken off in the middle
    refuse_next: tuple[int, str, int] | None = None  # status, sentence, code
    garbage_next: bytes | None = None
    may_answer: threading.Event = field(default_factory=threading.Event)  # while it is clear, requests wait

    attach_argv: list[str] | None = None  # what it answers to attach

    @property
    def tmux(self) -> Path:
        """A program of that name."""
        return self.spool / "tmux"

    def __post_init__(self) -> None:
        for name in ("incoming", "jobs/rejected", "snapshots", "returns"):
            (self.spool / name).mkdir(parents=True)
        self.may_answer.set()

    def add_job(self, name: str = "job", state: str = "queued", **more: Any) -> int:
        number = max(self.jobs, default=0) + 1
        self.jobs[number] = {
            "id": number,
            "name": name,
            "owner": "me",
            "state": state,
            "cpus": 1.0,
            "ram_bytes": 2**30,
            "submitted_at_s": time.time(),
            **more,
        }
        return number

    def finish(self, number: int, state: str = "done", files: dict[str, bytes] | None = None, **more: Any) -> Path:
        """End a job with a return folder."""
        folder = self.spool / "returns" / str(number)
        folder.mkdir()
        for name, content in {"stdout.log": b"", "result.json": b"{}", **(files or {})}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        self.jobs[number] |= {"state": state, "output_bytes": size, "ended_at_s": time.time(), **more}
        return folder

    def accept(self) -> None:
        """Take what was dropped into jobs/."""
        for path in sorted((self.spool / "jobs").glob("*.yaml")):
            text = path.read_bytes()
            path.unlink()
            spec = parse_job(text)
            self.specs.append(spec)
            if spec.submission in self.submissions:
                continue
            digest = self._store(spec.project)
            made = [self._add(one, digest) for one in expand(spec)]
            for number, index in zip(made, spec.array.indices if spec.array else (), strict=False):
                self.jobs[number] |= {"array_id": made[0], "array_index": index}
            self.submissions[spec.submission] = made

    def _add(self, spec: JobSpec, digest: str) -> int:
        state = "held" if spec.hold else "queued"
        more = {"cpus": spec.resources.cpus, "snapshot": digest, "entrypoint": spec.entrypoint}
        return self.add_job(spec.name, state, **more)

    def _store(self, project: str) -> str:
        if project.startswith("snapshot:"):
            return project.removeprefix("snapshot:")
        upload = self.spool / "incoming" / project
        digest = digest_of(manifest_of(upload))
        destination = self.spool / "snapshots" / digest
        if destination.exists():
            shutil.rmtree(upload)
        else:
            upload.rename(destination)
        return digest


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        pass

    def do_GET(self) -> None:
        self._answer("GET", {})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer("POST", body)

    def _answer(self, method: str, body: Any) -> None:
        at = self.server.state
        parts = urlsplit(self.path)
        path = unquote(parts.path).removeprefix("/api/v1/")
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        at.requests.append(f"{method} {path}")
        at.may_answer.wait()
        if at.refuse_next:
            status, sentence, code = at.refuse_next
            at.refuse_next = None
            self._send(status, json.dumps({"error": sentence, "code": code}).encode())
            return
        status, content, headers = _route(at, method, path, query, body)
        if at.garbage_next is not None:
            content, at.garbage_next = at.garbage_next, None
        self._send(status, content, headers)

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        at = self.server.state
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if at.cut_next:
            at.cut_next -= 1
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            self.close_connection = True
            return
        self.wfile.write(content)


def _route(at: StandIn, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, bytes, dict[str, str]]:
    log = re.fullmatch(r"jobs/(\d+)/logs/(\w+)", path)
    if log:
        return _log(at, int(log[1]), log[2], query)
    try:
        found = _facts(at, method, path, query, body)
    except KeyError as error:
        return 404, json.dumps({"error": f"there is no {path}: {error}", "code": 3}).encode(), {}
    return 200, json.dumps(found).encode(), {}


def _log(at: StandIn, number: int, stream: str, query: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
    offset = int(query["offset"])
    deadline = time.monotonic() + float(query.get("wait_s", 0))
    while True:
        whole, ended = at.logs.get((number, stream), b""), at.jobs[number]["state"] in FINAL
        start = max(0, len(whole) + offset) if offset < 0 else offset
        data = whole[start : start + int(query["limit"])]
        if data or ended or time.monotonic() > deadline:
            return 200, data, {"Racksack-Offset": str(start + len(data)), "Racksack-Ended": str(int(ended))}
        time.sleep(0.01)


def _facts(at: StandIn, method: str, path: str, query: dict[str, str], body: Any) -> Any:
    words = path.split("/")
    if method == "POST" and path != "plan":
        return _act(at, words, json.loads(body or b"{}"))
    controller = {"web": "127.0.0.1:8470", "version": at.version, "now_s": time.time() + at.ahead_s}
    whole = {
        "controller": controller,
        "status": {
            "controller": controller,
            "jobs": list(at.jobs.values())[: at.status_jobs_max],
            "jobs_total": sum(job["state"] not in FINAL for job in at.jobs.values()),
            "nodes": at.nodes,
        },
        "doctor": at.findings,
        "nodes": at.nodes,
        "energy": at.energy,
    }
    if path == "doctor" and not set(filter(None, query.get("node", "").split(","))) <= {n["name"] for n in at.nodes}:
        raise KeyError(query["node"])
    if path in whole:
        return whole[path]
    if path in ("jobs", "history"):
        return _listed(at, query | ({"all": "1"} if path == "history" else {}))
    if path == "plan":
        return _plan(at, body)
    if words[0] == "snapshots":
        if not (at.spool / "snapshots" / words[1]).is_dir():
            raise KeyError(words[1])
        return {}
    if words[0] == "submissions":
        at.accept()
        return {"jobs": at.submissions[words[1]]}
    if words[0] == "nodes":
        node = next((node for node in at.nodes if node["name"] == words[1]), None)
        if node is None:
            raise KeyError(words[1])
        return {"sentence": f"{words[1]} is fine"} if words[2:] == ["why"] else node
    return _job(at, words, query)


def _job(at: StandIn, words: list[str], query: dict[str, str]) -> Any:
    job = at.jobs[int(words[1])]
    if words[2:] == ["why"]:
        return {"sentence": f"job {job['id']} waits for a node"}
    if words[2:] == ["attach"]:
        at.tmux.write_text("#!/bin/sh\nshift; echo attached to $*\n")
        at.tmux.chmod(0o755)
        argv = at.attach_argv or [str(at.tmux), "attach-session", "-t", f"={job['id']}"]
        return {"argv": argv, "hint": "leave with Ctrl-B d"}
    deadline = time.monotonic() + float(query.get("wait_s", 0))
    while job["state"] == query.get("seen") and time.monotonic() < deadline:
        time.sleep(0.01)
    return {"events": [{"at_s": job["submitted_at_s"], "sentence": "submitted"}], "attempts": [], "spec": {}, **job}


def _listed(at: StandIn, query: dict[str, str]) -> list[dict[str, Any]]:
    jobs = sorted(at.jobs.values(), key=lambda job: -job["id"])
    jobs = [job for job in jobs if job["id"] < int(query.get("before", 10**9))]
    if "name" in query:
        jobs = [job for job in jobs if job["name"] == query["name"]]
    elif not query.get("all") and "fetched" not in query:
        jobs = [job for job in jobs if job["state"] not in FINAL]
    if query.get("fetched") == "0":
        jobs = [job for job in jobs if not job.get("fetched") and job["state"] in FINAL]
    return jobs[: int(query.get("limit", 1000))]


def _plan(at: StandIn, body: bytes) -> dict[str, Any]:
    try:
        parse_job(body)
    except JobFileError as error:
        return {"problems": [{"line": p.line, "path": p.path, "sentence": p.sentence} for p in error.problems]}
    return {"problems": [], "never": at.never, "fits": ["r1"], "waits": "waits for r1 (full)"}


def _act(at: StandIn, words: list[str], body: dict[str, Any]) -> Any:
    at.posted.append(("/".join(words), body))
    if words == ["web", "login"]:
        return {"path": "/?key=once", "works_until_s": time.time() + 600, "user": "somebody"}
    if words == ["web", "logout"]:
        return {"ended": 1}
    if words[0] == "jobs":
        job = at.jobs[int(words[1])]
        if words[2] == "cancel":
            job["state"] = "cancelled"
        if words[2] == "fetched":
            job["fetched"] = True
        return job
    if words[2:] == ["power"]:
        return next(node for node in at.nodes if node["name"] == words[1])
    return {}


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Serves a stand-in on its spool's socket."""

    daemon_threads = True
    request_queue_size = 50

    def __init__(self, state: StandIn, path: str) -> None:
        self.state = state
        super().__init__(path, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is what some tests are about."""


def serve(state: StandIn, path: str | None = None) -> Server:
    """Serve until `shutdown` and `server_close`."""
    server = Server(state, path or str(state.spool / "controller.sock"))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server
