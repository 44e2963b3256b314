"""Rules for what is sent mean what they mean to git: compared with the real one on random rules and trees."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.sizes import sized

from racksack.result_folder import MARK
from racksack.submission import receipt
from racksack.submission.ignore import Rule, Rules
from racksack.submission.project import select

SETS = sized(40, 400)
NAMES = ["a", "b", "src", "data", "x.py", "y.txt", ".h", "a b", "build", "[z]", "B", "\u00fc"]
PIECES = ["*", "**", "?", "a", "b", "src", "data", "*.py", "y.*", "[ab]", "[!a]*", "[a-", "\\a", "build", "[[:alpha:]]"]
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def random_line(chance: random.Random) -> str:
    text = "/".join(chance.choice(PIECES) for _ in range(chance.choice([1, 1, 1, 2, 2, 3])))
    line = (
        chance.choice(["", "", "/", "!", "!/"]) + text + chance.choice(["", "", "/", "/**", "/**/", "/*", " ", "\\ "])
    )
    return chance.choice([line] * 12 + ["# " + line, "\\" + line, "!", "/", ""])


def make_tree(root: Path, chance: random.Random) -> None:
    for _ in range(chance.randrange(5, 25)):
        path = root.joinpath(*(chance.choice(NAMES) for _ in range(chance.randrange(1, 5))))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                path.write_text("")
        except (NotADirectoryError, FileExistsError):
            continue


def ours(root: Path, lines: list[str]) -> set[str]:
    rules, found, pending = Rules([Rule(line, "") for line in lines]), set(), [b""]
    while pending:
        folder = pending.pop()
        for entry in os.scandir(os.path.join(os.fsencode(root), folder)):  # noqa: PTH118 - as the walk does
            path, is_folder = os.path.join(folder, entry.name), entry.is_dir(follow_symlinks=False)  # noqa: PTH118
            decision = rules.decides(path, is_folder=is_folder)
            if decision is not None and decision[1]:
                continue
            if is_folder:
                pending.append(path)
            else:
                found.add(os.fsdecode(path))
    return found


@needs_git
def test_random_rules_mean_what_they_mean_to_git(tmp_path: Path) -> None:
    chance = random.Random(20261201)
    git = ["git", "-c", "safe.directory=*", "--git-dir", str(tmp_path / "git"), "--work-tree"]
    subprocess.run([*git, str(tmp_path), "init", "-q"], check=True, capture_output=True)
    for number in range(SETS):
        root = tmp_path / f"tree{number}"
        make_tree(root, chance)
        lines = [random_line(chance) for _ in range(chance.randrange(1, 7))]
        rules = tmp_path / "rules"
        rules.write_text("\n".join(lines) + "\n")
        argv = [*git, str(root), "ls-files", "-z", "--others", f"--exclude-from={rules}"]
        told = subprocess.run(argv, check=True, capture_output=True, cwd=root).stdout
        theirs = {os.fsdecode(name) for name in told.split(b"\0") if name}
        assert ours(root, lines) == theirs, f"set {number}: {lines}"
        shutil.rmtree(root)


def names(root: Path, **options: tuple[str, ...]) -> list[str]:
    return [os.fsdecode(entry.path) for entry in select(root, **options).entries]


def test_a_whitelist_brings_back_what_it_names_alone(tmp_path: Path) -> None:
    for name in ("src/m.py", "src/node_modules/i.js", "src/venv/y", "src/.git/config", "other/o", "main.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / ".racksackignore").write_bytes(b"\xef\xbb\xbf/*\r\n!/src/\r\n!/main.py\r\n")
    assert names(tmp_path) == ["main.py", "src/m.py"]
    (tmp_path / ".racksackignore").unlink()
    assert "src/venv/y" not in names(tmp_path, include=("src",))
    assert "src/venv/y" in names(tmp_path, include=("venv",))


def test_likely_secrets_stay_here_and_are_named(tmp_path: Path) -> None:
    for name in ("main.py", ".env", "keys/id_ed25519", "keys/id_ed25519.pub"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert names(tmp_path) == ["keys/id_ed25519.pub", "main.py"]
    (warning,) = receipt.warnings(select(tmp_path))
    assert warning == "left out as likely secrets: .env, keys/id_ed25519; send one with --include '/.env'"
    assert names(tmp_path, include=("/.env", "id_ed25519")) == [
        ".env", "keys/id_ed25519", "keys/id_ed25519.pub", "main.py",
    ]  # fmt: skip


def test_fetched_results_are_not_sent_back(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("")
    before = select(tmp_path)
    for folder in ("results/1-train", "results/2-train", "results/.racksack-partial/3"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "model.bin").write_text("")
    for folder in ("results/1-train", "results/2-train"):
        (tmp_path / folder / MARK).write_text("{}")
    assert select(tmp_path).entries == before.entries, "the content is the same, so nothing is sent again"
    assert "results of earlier jobs (default) x2" in "\n".join(receipt.lines(select(tmp_path)))
    assert "results/1-train/model.bin" in names(tmp_path, include=("/results/1-train",))
