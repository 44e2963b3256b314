"""Logs and files of a job on the page: ranges, search, what is shown of them, and what nobody gets to see."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from racksack_controller.web.log_text import plain_log
from racksack_controller.web.result_files import NoFileError, listing, read_part
from racksack_controller.web.stages import stages
from tests.end_to_end.projects import make
from tests.web.conftest import HOSTILE, Page

WRITES = f"""\
import os
os.makedirs("out/deep", exist_ok=True)
open("out/table.csv", "w").write("name,loss\\n<b>x</b>,0.5\\n" + "".join(f"r{{i}},{{i}}\\n" for i in range(500)))
open("out/page.html", "w").write({HOSTILE!r})
open("out/script.js", "w").write("document.title='owned'")
open("out/deep/<b> & é.txt", "w").write("deep")
open("out/dot.png", "wb").write(bytes.fromhex("89504e470d0a1a0a") + bytes(50))
open("out/raw.bin", "wb").write(bytes(range(256)) * 10)
os.symlink("/etc/passwd", "out/link.txt")
os.symlink("/etc", "out/folder")
"""


@pytest.fixture(scope="module")
def job(page: Page) -> int:
    page.site.cli("racksack", "hold", page.waiting)  # it is to wait for the other tests
    page.site.cli("racksack", "resume", "here")
    try:
        project = make(page.site.work / "files", WRITES)
        made = page.site.submit(project, "--cpus", "1", "--ram", "100M", "--out", "out/**")
        page.site.wait_for(made, "done")
    finally:
        page.site.cli("racksack", "drain", "here", "--reason", HOSTILE)
        page.site.cli("racksack", "release", page.waiting)
    return made


def test_files_are_listed_looked_at_and_downloaded(page: Page, job: int) -> None:
    signed = {"Cookie": page.cookie}
    found = json.loads(page.ask(f"/api/v1/jobs/{job}/files", signed)[2])
    assert {"out/table.csv", "out/dot.png", "stdout.log"} <= {one["path"] for one in found["files"]}
    status, headers, text = page.ask(f"/api/v1/jobs/{job}/files/out/table.csv", signed)
    assert (status, headers["Content-Type"], len(text.splitlines())) == (200, "application/octet-stream", 502)
    assert headers["Content-Disposition"].startswith("attachment")
    text = page.ask(f"/jobs/{job}/files/out/table.csv", signed)[2]
    assert "<th>loss</th>" in text
    assert "&lt;b&gt;x&lt;/b&gt;" in text
    assert "first rows" in text
    assert "<img" in page.ask(f"/jobs/{job}/files/out/dot.png", signed)[2]
    assert "download it" in page.ask(f"/jobs/{job}/files/out/raw.bin", signed)[2]
    status, headers, text = page.ask(f"/api/v1/jobs/{job}/files/out/table.csv?offset=5&limit=4", signed)
    assert (status, text, int(headers["Racksack-Size"]) > 1000) == (200, "loss", True)


@pytest.mark.parametrize("name", ["page.html", "script.js", "dot.png"])
def test_no_browser_runs_what_a_job_wrote(page: Page, job: int, name: str) -> None:
    for query in ("", "?image=1", "?offset=0"):
        headers = page.ask(f"/api/v1/jobs/{job}/files/out/{name}{query}", {"Cookie": page.cookie})[1]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
        kind = headers["Content-Type"].partition(";")[0]
        assert kind in ("application/octet-stream", "text/plain") or (name, kind) == ("dot.png", "image/png")


@pytest.mark.parametrize(
    "path",
    [
        "..%2f..%2fstore.db",
        "out/../../1/stdout.log",
        "out",
        "/etc/passwd",
        "%00",
        "nothing",
        "out/link.txt",
        "out/folder/passwd",
    ],
)
def test_only_files_that_came_back_are_given(page: Page, job: int, path: str) -> None:
    for before in (f"/api/v1/jobs/{job}/files/", f"/jobs/{job}/files/"):
        status, _, text = page.ask(before + path, {"Cookie": page.cookie})
        assert status in (404, 400)
        assert "root:" not in text


def test_files_are_their_owners(page: Page, job: int) -> None:
    for path in ("files", "files/out/table.csv", "files/stdout.log?offset=0"):
        assert page.ask(f"/api/v1/jobs/{job}/{path}")[0] == 403
    assert page.ask(f"/jobs/{job}/files/out/table.csv")[0] == 403
    assert "table.csv" not in page.ask(f"/jobs/{job}")[2]


def test_a_folder_that_is_a_link_or_deep_or_full_ends_nobody(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    root = tmp_path / "root"
    deep = root / "/".join(["d"] * 60)
    deep.mkdir(parents=True)
    (deep / "file").write_text("x")
    for number in range(2100):
        (root / f"f{number}").write_text("")
    (root / "up").symlink_to(tmp_path)
    os.mkfifo(root / "pipe")
    found = listing(root)
    assert (len(found.entries), found.is_all) == (2000, False)
    assert not any(one.path.startswith("up") or one.path == "pipe" for one in found.entries)
    for path in ("up/secret", "pipe", "../secret", "d", ""):
        with pytest.raises(NoFileError):
            read_part(root, path, 0, 10)
    link = tmp_path / "link"
    link.symlink_to(root)
    assert listing(link).entries == ()


def test_a_log_is_searched_from_a_place_on(page: Page) -> None:
    def find(query: str) -> tuple[int, dict[str, object]]:
        status, _, text = page.ask(f"/api/v1/jobs/{page.failed}/logs/stderr/find?{query}", {"Cookie": page.cookie})
        return status, json.loads(text)

    log = page.ask(f"/api/v1/jobs/{page.failed}/logs/stderr", {"Cookie": page.cookie})[2]
    assert find("text=LINE+299")[1]["at"] == log.index("line 299")
    assert find(f"text=line&offset={log.index('line 299')}")[1]["at"] == log.index("line 299")
    assert find("text=nothing+of+it")[1] == {"at": None, "next": len(log.encode()), "ended": True}
    assert find("text=")[0] == find("text=" + "x" * 300)[0] == 400
    assert page.ask(f"/api/v1/jobs/{page.failed}/logs/stderr/find?text=line")[0] == 403


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("\x1b[32mgreen\x1b[0m text\n", "green text\n"),
        ("10%\r20%\r30%\nnext", "30%\nnext"),
        ("windows\r\nlines\r\n", "windows\nlines\n"),
        ("\x1b]0;title\x07seen\x1b[2J\x08\x00", "seen"),
        ("\x1b]0;never ended", ""),
        ("tab\tstays \x1b", "tab\tstays "),
    ],
)
def test_what_steers_a_terminal_is_no_text(written: str, shown: str) -> None:
    assert plain_log(written) == shown


def test_stages_add_up_and_the_present_one_grows() -> None:
    attempt = {"number": 1, "placed_at_s": 10.0, "started_at_s": 12.0, "ended_at_s": None}
    job = {"attempts": [attempt], "attempt": 1, "submitted_at_s": 0.0, "ended_at_s": None}
    found = stages(job, 20.0)
    assert [(one["name"], one["took_s"], one["is_now"]) for one in found] == [
        ("waited", 10.0, False),
        ("prepared", 2.0, False),
        ("ran", 8.0, True),
    ]
    assert abs(sum(one["share"] for one in found) - 1) < 1e-9
    assert [one["name"] for one in stages({**job, "attempts": [], "attempt": 0}, 5.0)] == ["waited"]
