"""Secrets reach the job that asked for them, and nothing that is stored, shown or logged."""

import base64
import http.server
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from racksack_jobspecs.parse import JobFileError, parse_job
from racksack_jobspecs.write import job_file
from tests.end_to_end.projects import make
from tests.end_to_end.site import Site

CANARY = "canary-7f3a9c1e-do-not-tell"
INDEX_PASSWORD = "canary-index-55d0:/@?"
CONFIG = """\
web: {listen: off}
watch: {settle: 0.2s, rescan: 2s}
secrets:
  API_KEY: {file: SECRETS/key}
  INDEX_PASSWORD: {file: SECRETS/index}
  THEIRS: {file: SECRETS/key, users: [somebody-else]}
  GONE: {file: SECRETS/gone}
nodes:
  here: {local: {}, cpus: 8, ram: 16G}
"""
TELLS = """\
import os, sys, time
key = os.environ["API_KEY"]
print("the key is", key, flush=True)
print("twice:", key + key, file=sys.stderr, flush=True)
sys.stdout.write("half " + key[:12]); sys.stdout.flush()
while not os.path.exists(sys.argv[1]):
    time.sleep(0.02)
print(key[12:], "end")
open(os.path.join(os.environ["RACKSACK_RETURN_DIR"], "error.txt"), "w").write("it failed with " + key)
sys.exit(3)
"""
WAIT_S = 60


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("secrets")
    (folder / "key").write_text(CANARY + "\n")
    (folder / "index").write_text(INDEX_PASSWORD)
    found = Site(CONFIG.replace("SECRETS", str(folder)))
    try:
        found.start()
        yield found
    finally:
        found.close()


def holders(root: Path, words: list[bytes]) -> list[str]:
    """The files below a folder in which one of the words stands."""
    found = []
    for path in root.rglob("*"):
        try:
            if path.is_file() and not path.is_symlink() and any(word in path.read_bytes() for word in words):
                found.append(str(path.relative_to(root)))
        except OSError:
            continue  # it went meanwhile
    return found


def arguments() -> bytes:
    """The command lines of all processes, as `ps` shows them."""
    found = b""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += path.read_bytes() + b"\n"
        except OSError:
            continue  # it has ended
    return found


def test_a_secret_is_in_the_jobs_environment_and_nowhere_else(site: Site, tmp_path: Path) -> None:
    go = site.work / "go"
    job = site.submit(make(site.work / "tells", TELLS), "--secret", "API_KEY", "--", str(go))
    site.wait_for(job, "running")
    until_printed(site, job, "half ")
    printed = site.cli("racksack", "logs", str(job))
    running = printed.stdout + printed.stderr
    assert f"twice: {'*' * 2 * len(CANARY)}" in running
    assert f"the key is {'*' * len(CANARY)}" in running
    assert CANARY[:12] not in running, "the beginning of what may become the secret waits"
    assert CANARY.encode() not in arguments()
    go.touch()
    site.wait_for(job, "failed")
    shown = site.cli("racksack", "logs", str(job)).stdout
    assert f"half {'*' * len(CANARY)} end" in shown, "also what was written in two pieces"
    told = str(site.ask(f"jobs/{job}")) + str(site.ask("status")) + site.cli("racksack", "status", str(job)).stdout
    told += site.cli("racksack", "history").stdout + site.cli("racksack", "why", str(job), code=None).stdout
    assert f"it failed with {'*' * len(CANARY)}" in told
    words = [CANARY.encode(), base64.b64encode(CANARY.encode())]
    assert not any(word.decode() in told for word in words)
    assert "API_KEY" in str(site.ask(f"jobs/{job}")["spec"]), "its name alone"
    left = [name for name in holders(site.root, words) if not name.endswith("/error.txt")]
    assert left == [], "the store, its log, the spool, the node and the configuration hold it nowhere"


def until_printed(site: Site, job: int, text: str) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while text not in site.cli("racksack", "logs", str(job)).stdout:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("NOWHERE", "may use no secret NOWHERE; racksack.yaml has API_KEY, GONE, INDEX_PASSWORD (secrets)"),
        ("THEIRS", "may use no secret THEIRS; racksack.yaml has API_KEY, GONE, INDEX_PASSWORD (secrets)"),
    ],
)
def test_a_secret_that_there_is_not_is_refused_at_once(site: Site, name: str, sentence: str) -> None:
    project = make(site.work / f"plain-{name}", "print(1)\n")
    done = site.cli("submit", str(project), "main.py", "--no-venv", "--secret", name, code=None)
    assert done.returncode != 0
    assert sentence in done.stderr


class Index(http.server.BaseHTTPRequestHandler):
    """A private index: says 401 without the login, and notes what it was asked."""

    seen: list[tuple[str, str]] = []  # noqa: RUF012

    def do_GET(self) -> None:
        given = self.headers.get("Authorization", "")
        self.seen.append((self.path, base64.b64decode(given.removeprefix("Basic ")).decode() if given else ""))
        page = b"<!DOCTYPE html><html><body></body></html>" if given else b""
        self.send_response(200 if given else 401)
        if not given:
            self.send_header("WWW-Authenticate", 'Basic realm="index"')
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_args: object) -> None:
        pass


def test_a_private_index_is_asked_with_its_password_which_is_kept_nowhere(site: Site) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://ann:${{INDEX_PASSWORD}}@127.0.0.1:{server.server_port}/simple"
        project = make(site.work / "private", "print(1)\n")
        (project / "requirements.txt").write_text("only-in-the-private-index==1.0\n")
        done = site.cli(
            "submit", str(project), "main.py", "--index-url", address, "--secret", "INDEX_PASSWORD", "--json"
        )  # fmt: skip
        job = site.ask("jobs?all=1&limit=1")[0]["id"]
        site.wait_for(job, "prepare_failed")
    finally:
        server.shutdown()
        server.server_close()
    assert ("/simple/only-in-the-private-index/", f"ann:{INDEX_PASSWORD}") in Index.seen
    told = str(site.ask(f"jobs/{job}")) + site.cli("racksack", "logs", str(job), "--env", code=None).stdout
    assert "${INDEX_PASSWORD}" in told
    quoted = "canary-index-55d0%3A%2F%40%3F"
    for word in (INDEX_PASSWORD, quoted):
        assert word not in told + done.stdout + done.stderr
        assert holders(site.root, [word.encode()]) == []


@pytest.mark.parametrize("login", ["ann:hunter2", "hunter2", "ann:${A}x", "${A}:hunter2"])
def test_a_password_in_an_address_is_refused_and_not_repeated(login: str) -> None:
    text = "project: u\nentrypoint: m.py\nsecrets: [A]\nenvironment: {index_url: 'https://LOGIN@i.example/s'}\n"
    with pytest.raises(JobFileError, match="holds a password, which would be stored") as caught:
        parse_job(text.replace("LOGIN", login))
    assert "hunter2" not in str(caught.value)


def test_indexes_and_secrets_are_written_back() -> None:
    text = (
        "project: u\nentrypoint: m.py\nsecrets: [A, TOKEN]\n"
        "environment: {index_url: 'https://u:${A}@i.example/s', extra_index_urls: ['https://${TOKEN}@j.example/s']}\n"
    )
    spec = parse_job(text)
    assert spec.environment.extra_index_urls == ("https://${TOKEN}@j.example/s",)
    assert parse_job(job_file(spec)) == spec
    with pytest.raises(JobFileError, match="names TOKEN, which does not stand under secrets"):
        parse_job(text.replace("[A, TOKEN]", "[A]"))


def test_a_secret_that_cannot_be_read_holds_the_start_with_its_reason(site: Site) -> None:
    project = make(site.work / "gone", "print(1)\n")
    job = site.submit(project, "--secret", "GONE")
    deadline_s = time.monotonic() + WAIT_S
    while "the secret GONE cannot be read on the controller" not in str(site.ask(f"jobs/{job}")):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    assert "/gone" not in str(site.ask(f"jobs/{job}")), "where it is said in the log alone"
    assert "/gone" in site.log()
    site.cli("racksack", "cancel", str(job), code=None)


def test_the_process_has_it_in_no_argument(site: Site) -> None:
    assert os.environ.get("API_KEY") is None
    assert CANARY.encode() not in arguments()


def test_doctor_looks_at_them(site: Site) -> None:
    told = site.cli("racksack", "doctor", code=None).stdout
    assert "API_KEY: the password file" in told, "the file of the test is open to others"
    assert "can be read by others" in told
    assert "GONE: the password file" in told
    assert "jobs that ask for it do not start" in told
    assert CANARY not in told


def test_the_points_of_a_sweep_have_it_and_tell_it_in_no_failure(site: Site) -> None:
    project = make(site.work / "swept", "")
    (project / "m.py").write_text(
        "import os\n"
        "def f(x):\n"
        "    if x > 1:\n"
        "        raise ValueError('wrong key ' + os.environ['API_KEY'])\n"
        "    return {'value': len(os.environ['API_KEY'])}\n"
    )
    beside = site.work / "swept.yaml"
    beside.write_text(
        f"project: {project}\nentrypoint: m.py\nenvironment: none\nsecrets: [API_KEY]\n"
        "sweep: {function: f, params: {x: '1:2:1'}, retries: 0}\n"
    )
    done = site.cli("submit", str(beside), "--parsable")
    number = int(done.stdout.split()[0])
    site.cli("racksack", "wait", str(number), code=None)
    points = site.cli("racksack", "sweep", "points", str(number), code=None).stdout
    points += str(site.ask(f"sweeps/{number}/failures")) if "wrong key" not in points else ""
    assert f"wrong key {'*' * len(CANARY)}" in points
    assert str(len(CANARY)) in site.cli("racksack", "sweep", "top", str(number)).stdout
    left = [name for name in holders(site.root, [CANARY.encode()]) if not name.endswith("/error.txt")]
    assert left == []
