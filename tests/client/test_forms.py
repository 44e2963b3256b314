"""Ways to say what is to run, and words of other schedulers: they mean what they mean elsewhere, or are refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from tests.client.conftest import Cli
from tests.client.stand_in import StandIn

from racksack.errors import UsageError
from racksack.main import racksack_group
from racksack.submission.option_values import environment
from racksack.submission.sbatch import translated


def content(controller: StandIn, number: int = 1) -> Path:
    """What the job would run in."""
    return controller.spool / "snapshots" / controller.jobs[number]["snapshot"]


def test_a_script_alone(cli: Cli, controller: StandIn, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "run.sh").write_text("#!/bin/sh\necho hello\n")
    assert cli("submit", project / "run.sh").code == 0
    monkeypatch.chdir(project)
    assert cli("submit", "run.sh").code == 0
    assert [spec.entrypoint for spec in controller.specs] == ["run.sh", "run.sh"]
    assert (content(controller) / "data/prices.bin").exists()


def test_a_script_in_the_home_does_not_send_the_home(cli: Cli, controller: StandIn, private_home: Path) -> None:
    (private_home / "run.sh").write_text("#!/bin/sh\n")
    ended = cli("submit", private_home / "run.sh")
    assert ended.code == 2
    assert "it is your home" in ended.err


@pytest.mark.parametrize(
    ("words", "line", "name"),
    [
        (("--", "python", "train.py", "--lr", "1 2"), "exec python train.py --lr '1 2'", "python"),
        (("--wrap", "make && ./model > out.txt"), "make && ./model > out.txt", "make"),
        (("--wrap", "A=1 /usr/bin/env"), "A=1 /usr/bin/env", "env"),
    ],
)
def test_a_command_line(
    cli: Cli, controller: StandIn, project: Path, words: tuple[str, ...], line: str, name: str
) -> None:
    ended = cli("submit", project, "-c", "2", *words)
    assert ended.code == 0, ended.err
    (spec,) = controller.specs
    script = content(controller) / spec.entrypoint
    assert script.read_text() == f"#!/bin/sh\n{line}\n"
    assert script.stat().st_mode & 0o111
    assert (spec.name, spec.args, spec.resources.cpus) == (name, (), 2)
    assert sorted(path.name for path in project.iterdir()) == ["data", "main.py"], "nothing is left in the project"


def test_nothing_to_run_is_a_usage_error(cli: Cli, controller: StandIn, project: Path) -> None:
    assert "submit DIR -- COMMAND" in cli("submit").err
    assert "submit DIR -- COMMAND" in cli("submit", project).err
    assert cli("submit", project, "main.py", "--wrap", "x").code == 2
    assert cli("submit", project, "--wrap", "x", "--", "y").code == 2


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("-n", "4"), "for 4 CPUs write -c 4"),
        (("-J", "last"), "names other jobs already"),
        (("-J", "3-9"), "names other jobs already"),
        (("-t", "10:00"), "could be 10 minutes or 10 hours; write 10m, or 10h"),
        (("--output=log",), "stdout comes back as stdout.log"),
        (("-o", "log"), "stdout comes back as stdout.log"),
        (("-e", "err.txt"), "stderr comes back as stderr.log"),
        (("--gres=gpu:2",), "write -G 2"),
        (("--export=ALL",), "write -e NAME=VALUE"),
        (("--nice",), "--priority -10"),
        (("--qos", "high"), "-p PARTITION"),
        (("--chdir", "x"), "name the folder as DIR"),
    ],
)
def test_words_of_slurm(cli: Cli, controller: StandIn, project: Path, words: tuple[str, ...], expected: str) -> None:
    ended = cli("submit", project, "main.py", *words)
    assert ended.code == 2
    assert expected in ended.err
    assert not controller.jobs


@pytest.mark.parametrize(
    ("word", "ours"),
    [("squeue", "status"), ("sinfo", "nodes"), ("scancel", "cancel"), ("ls", "status"), ("ssh", "attach")],
)
def test_commands_of_others(cli: Cli, controller: StandIn, word: str, ours: str) -> None:
    ended = cli("racksack", word)
    assert ended.code == 2
    assert f"write racksack {ours}" in ended.err


SBATCH = """\
#!/bin/bash
#SBATCH --job-name=train --ntasks=1
#SBATCH -c 4 -t 10:00
#SBATCH --mem=2000
#SBATCH --gres=gpu:rtx3090:2   # two
#SBATCH --output=slurm-%j.out --mail-type=END
#SBATCH --array=0-3%2

echo hello
"""


def test_sbatch_lines_mean_what_they_mean_to_sbatch(cli: Cli, controller: StandIn, project: Path) -> None:
    (project / "run.sh").write_text(SBATCH)
    ended = cli("submit", project, "run.sh")
    assert ended.code == 0, ended.err
    spec = controller.specs[0]
    assert (spec.name, spec.resources.cpus, spec.time_limit_s) == ("train", 4, 600)
    assert spec.resources.ram_bytes == 2000 * 1024**2
    assert spec.resources.gpus is not None
    assert (spec.resources.gpus.count, spec.resources.gpus.model) == (2, "rtx3090")
    assert len(controller.jobs) == 4
    assert "without effect here: --output --mail-type" in ended.err
    (project / "run.sh").write_text(SBATCH.replace("--ntasks=1", "--ntasks=8"))
    assert "write -c N for CPUs" in cli("submit", project, "run.sh").err
    (project / "run.sh").write_text(SBATCH.replace("#!/bin/bash", "#!/bin/bash\n#JOB --cpus 2"))
    assert cli("submit", project, "run.sh").code == 0
    assert controller.specs[-1].resources.cpus == 2, "our own lines win"


@pytest.mark.parametrize(
    ("value", "seconds"), [("30", 1800), ("10:00", 600), ("1:30:00", 5400), ("1-12", 129600), ("2-0:30", 174600)]
)
def test_times_of_sbatch(value: str, seconds: int) -> None:
    assert translated([f"--time={value}"], "here")[0] == ["--time", f"{seconds}s"]


@pytest.mark.parametrize("words", [["--chdir=/x"], ["--gres=tmp:1"], ["--wckey=x"], ["what"], ["--time"], ["-t", "x"]])
def test_what_sbatch_has_and_we_do_not_is_refused(words: list[str]) -> None:
    with pytest.raises(UsageError, match="here"):
        translated(words, "here")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("win.sh", b"#!/bin/bash\r\necho\r\n", "Windows line ends"),
        ("go.sh", b"echo\n", "names no interpreter"),
        ("nb.ipynb", b"{}", "names no interpreter"),
    ],
)
def test_what_no_node_could_start_is_refused_here(
    cli: Cli, controller: StandIn, project: Path, name: str, text: bytes, expected: str
) -> None:
    (project / name).write_bytes(text)
    ended = cli("submit", project, name)
    assert ended.code == 1
    assert expected in ended.err
    assert not controller.jobs


def test_entries_in_other_spellings(cli: Cli, controller: StandIn, project: Path) -> None:
    assert cli("submit", project, (project / "main.py").absolute()).code == 0
    (project / "pkg").mkdir()
    (project / "pkg/__main__.py").write_text("")
    assert "-- python -m pkg`" in cli("submit", project, "pkg").err
    assert cli("submit", project, "pkg/__main__.py").code == 0, "a folder with a main program is no package"
    (project / "pkg/__init__.py").write_text("")
    assert "-- python -m pkg`" in cli("submit", project, "pkg/__main__.py").err


def test_env_files_are_read_as_a_shell_reads_them(tmp_path: Path) -> None:
    file = tmp_path / "e"
    file.write_text("export A=\"b c\"\n# comment\nB='x'\nC=1=2\n")
    assert environment([], str(file)) == {"A": "b c", "B": "x", "C": "1=2"}


@pytest.mark.parametrize("words", [("help",), ("-h",), ("help", "submit"), ("sweep", "help", "top")])
def test_help_in_other_spellings(cli: Cli, words: tuple[str, ...]) -> None:
    ended = cli("racksack", *words)
    assert ended.code == 0
    assert "Usage: racksack" in ended.out


@pytest.mark.parametrize("word", ["-V", "-v", "--version", "version"])
def test_version_in_other_spellings(cli: Cli, word: str) -> None:
    assert cli("racksack", word).out.startswith("racksack ")
    assert cli("submit", "--version").out.startswith("racksack ")
    assert cli("fetch-results", "-V").out.startswith("racksack ")


def spelled(command: click.Command, path: str) -> Iterator[tuple[str, list[str]]]:
    """All spellings of the options of a command and its sub-commands."""
    yield path, [word for option in command.params if isinstance(option, click.Option) for word in option.opts]
    if isinstance(command, click.Group):
        with click.Context(command) as context:
            for name in command.list_commands(context):
                if (found := command.get_command(context, name)) is not None:
                    yield from spelled(found, f"{path} {name}")


def test_no_option_is_spelled_twice_in_a_command() -> None:
    seen = dict(spelled(racksack_group, "racksack"))
    assert len(seen) > 60
    assert {path: words for path, words in seen.items() if len(words) != len(set(words))} == {}
