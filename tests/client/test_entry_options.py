"""Options in the entry file, and retry with changes."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from tests.client.conftest import Cli
from tests.client.stand_in import StandIn

from racksack.errors import UsageError
from racksack.submission.draft import spec_of_options
from racksack.submission.entry_options import words_of


def test_only_the_comments_at_the_top_count(tmp_path: Path) -> None:
    entry = tmp_path / "run.sh"
    entry.write_text("#!/bin/sh\n# words\n#JOB --cpus 4 # four\n\n#JOB -e 'A=b c'\n#JOBS --no\necho\n#JOB --cpus 8\n")
    assert words_of(entry) == ["--cpus", "4", "-e", "A=b c"]
    entry.write_text("#JOB --name 'open\n")
    with pytest.raises(UsageError, match=r"run\.sh, line 1: No closing quotation"):
        words_of(entry)
    entry.write_bytes(b"\x7fELF\0#JOB --cpus 8\n")
    assert words_of(entry) == words_of(tmp_path) == words_of(tmp_path / "nothing") == []


def test_options_of_the_entry_file_stand_behind_those_given(cli: Cli, controller: StandIn, project: Path) -> None:
    (project / "main.py").write_text("#JOB --cpus 4 --ram 2G -e FROM=file\nprint()\n")
    assert cli("submit", project, "main.py", "--ram", "3G", "-e", "ALSO=here").code == 0
    spec = controller.specs[-1]
    assert (spec.resources.cpus, spec.resources.ram_bytes) == (4.0, 3 << 30)
    assert spec.env == {"FROM": "file", "ALSO": "here"}
    for line, says in (
        ("#JOB --follow", "--follow is for the command line"),
        ("#JOB --cpu 3", "there is no option --cpu"),
        ("#JOB more words", "unexpected extra argument"),
    ):
        (project / "main.py").write_text(f"{line}\n")
        ended = cli("submit", project, "main.py")
        assert ended.code == 2
        assert "the #JOB lines of main.py" in ended.err
        assert says in ended.err


def finished_job(controller: StandIn) -> int:
    spec = spec_of_options({"project": "local", "entrypoint": "main.py", "cpus": 2, "env": {"A": "1"}})
    number = controller.add_job("x", "failed", snapshot="0" * 64)
    controller.jobs[number]["spec"] = msgspec.to_builtins(spec)
    return number


def test_a_changed_retry_is_a_new_job_of_the_same_content(cli: Cli, controller: StandIn) -> None:
    number = finished_job(controller)
    ended = cli("racksack", "retry", str(number), "--cpus", "8", "-e", "B=2")
    assert (ended.code, ended.out) == (0, f"{number} queued again as {number + 1}\n"), ended.err
    spec = controller.specs[-1]
    assert (spec.project, spec.resources.cpus, spec.env) == ("snapshot:" + "0" * 64, 8.0, {"A": "1", "B": "2"})
    assert cli("racksack", "retry", str(number), "--cpus", "0").code == 2
    controller.jobs[number]["state"] = "running"
    assert cli("racksack", "retry", str(number), "--cpus", "8").code == 5


def test_a_job_file_may_be_edited_before_it_is_retried(
    cli: Cli, controller: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = finished_job(controller)
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\necho "priority: 7" >>"$1"\n')
    editor.chmod(0o755)
    monkeypatch.setenv("VISUAL", str(editor))
    assert cli("racksack", "retry", "--edit", str(number)).code == 0
    assert (controller.specs[-1].priority, controller.specs[-1].resources.cpus) == (7, 2.0)
    editor.write_text("#!/bin/sh\nexit 0\n")  # left as it was: not saved, not submitted
    assert cli("racksack", "retry", "--edit", str(number)).code == 2
