"""When a job printed: notes in the log's folder, `--since`, `--timestamps`."""

from __future__ import annotations

import re
import time
from pathlib import Path

from tests.client.conftest import Cli
from tests.client.stand_in import StandIn

from racksack.log_times import Lines, Notes

NOTES = Notes((100.0, 200.0, 300.0), (10, 10, 50))


def test_bytes_are_as_old_as_the_first_note_that_counts_them() -> None:
    assert [NOTES.time_of(offset) for offset in (0, 9, 10, 49, 50)] == [100.0, 100.0, 300.0, 300.0, None]
    assert [NOTES.offset_at(when) for when in (50.0, 100.0, 100.5, 250.0, 1e9)] == [0, 0, 10, 10, 50]
    assert (Notes().time_of(0), Notes().offset_at(5.0)) == (None, 0)


def test_lines_carry_what_stands_before_them_however_they_come_in() -> None:
    whole = b"one\n\ntwo\nthree"
    for size in range(1, len(whole) + 1):
        lines = Lines(b"7: ")
        said = b"".join(lines.feed(whole[at : at + size]) for at in range(0, len(whole), size)) + lines.end()
        assert said == b"7: one\n7: \n7: two\n7: three\n"
    assert Lines().feed(b"as it\0 is") == b"as it\0 is"
    stamped = Lines(b"7: ", Notes((0.0,), (4,)), otherwise=lambda: 3600.0)
    first, second = (stamped.feed(b"one\ntwo\n")).splitlines()
    assert re.fullmatch(rb"7: \S+T\S+[+-]\d\d:\d\d one", first)
    assert first[:-3] != second[:-3]


def test_logs_since_and_with_times(cli: Cli, controller: StandIn) -> None:
    number = controller.add_job(state="running")
    now = time.time()
    controller.logs[number, "stdout"] = bytearray(b"old\nnew\n")
    controller.logs[number, "times"] = bytearray(f"{now - 900:.3f} 4 0\nno note\n{now - 60:.3f} 8 0\n".encode())
    ended = cli("racksack", "logs", str(number), "--since", "10m")
    assert (ended.out, ended.err) == ("new\n", "")
    assert cli("racksack", "logs", str(number), "--since", "1h").out == "old\nnew\n"
    told = cli("racksack", "logs", str(number), "--timestamps", "-n", "1").out
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d new\n", told)
    for wrong in (["--since", "10"], ["--since", "10m", "-n", "1"], ["-f", "--attempt", "1"]):
        assert cli("racksack", "logs", str(number), *wrong).code == 2
    controller.jobs[number]["state"] = "done"
    controller.jobs[number]["ended_at_s"] = now - 1000
    assert cli("racksack", "logs", str(number), "--since", "10m").out == ""


def test_following_may_begin_at_the_last_lines(cli: Cli, controller: StandIn, tmp_path: Path) -> None:
    number = controller.add_job(state="done")
    controller.logs[number, "stdout"] = bytearray(b"".join(b"line %d\n" % line for line in range(20_000)))
    assert cli("racksack", "logs", "-f", "-n", "2", "--stdout", str(number)).out == "line 19998\nline 19999\n"


def test_how_a_job_came_and_went(cli: Cli, controller: StandIn) -> None:
    number = controller.add_job(state="done")
    controller.jobs[number]["events"] = [{"at_s": 1.0, "sentence": "attempt 1 placed on r1"}]
    controller.jobs[number]["attempts"] = [{"number": 1, "node": "r1", "problem": "r1 broke off"}]
    told = cli("racksack", "logs", "--stage", "transfer", str(number)).out
    assert "attempt 1 placed on r1" in told
    assert "attempt 1 on r1: r1 broke off" in told


def test_a_line_without_an_end_is_shown_and_costs_its_length() -> None:
    """A progress bar of 64 MB: joined anew for each piece it would take minutes."""
    lines, piece, given = Lines(b"7: "), b"\r12% [####>    ]" * 4096, 0
    for number in range(1000):
        shown = lines.feed(piece)
        assert shown.startswith(b"7: " if number == 0 else b"\r12%")
        given += len(shown)
    assert given == 3 + 1000 * len(piece)
    assert lines.feed(b"end\nnext") == b"end\n"
    assert lines.end() == b"7: next\n"


def test_a_carriage_return_is_no_line(cli: Cli, controller: StandIn) -> None:
    """As `tail -n` counts."""
    number = controller.add_job(state="running")
    controller.logs[number, "stdout"] = b"one\ntwo\n10%\r20%\r30%\nlast"
    for count, expected in (
        (0, ""),
        (1, "last"),
        (2, "10%\r20%\r30%\nlast"),
        (4, "one\ntwo\n10%\r20%\r30%\nlast"),
        (9, "one"),
    ):
        assert cli("racksack", "logs", "-n", count, number, "--stdout").out.startswith(expected)


def test_a_log_does_not_steer_the_terminal() -> None:
    """Colours stay; a title, the clipboard (OSC 52), a cleared screen and a question to the terminal do not."""
    from racksack.text import for_terminal

    plain = b"a\tb\r50%\n\x1b[1;32mgreen\x1b[0m \xc3\xa9\n"
    assert for_terminal(plain) == plain
    for evil in (
        b"\x1b]52;c;cm0gLXJm\x07",
        b"\x1b]0;title\x1b\\",
        b"\x1b[2J",
        b"\x1b[6n",
        b"\x1bc",
        b"\x1bP+q\x1b\\",
        b"\x9b\x00",
    ):
        shown = for_terminal(b"x" + evil + b"y\n")
        assert b"\x1b" not in shown
        assert b"\x07" not in shown
        assert shown.startswith(b"x")
