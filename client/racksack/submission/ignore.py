"""Which entries of a project are sent, and which rule left the others out.

The rules, later ones winning as in a .gitignore: the defaults, the lines of `.racksackignore`, `--exclude`,
`--include`. One parser (pathspec) reads them all. `.gitignore` itself is not read: data that is not versioned is often
what a job needs.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec
from pathspec.patterns.gitignore import GitIgnorePatternError

from racksack.errors import ProjectError

IGNORE_FILE = ".racksackignore"
DEFAULT_RULES = (".git", ".venv", "venv", "__pycache__", "node_modules", "*.pyc")


@dataclass(frozen=True)
class Rule:
    """One line, and where it was written."""

    pattern: str
    source: str

    def __str__(self) -> str:
        """For the receipt."""
        return f"{self.pattern} ({self.source})"


class Rules:
    """The rules of one submission, ready to be asked."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules
        try:
            self._spec = GitIgnoreSpec.from_lines(rule.pattern for rule in rules)
        except GitIgnorePatternError as error:
            raise ProjectError(f"a rule for what to leave out cannot be read: {error}") from error

    def leaves_out(self, relative: bytes, *, is_folder: bool) -> Rule | None:
        """The rule that leaves this entry out, or None when it is sent."""
        path = os.fsdecode(relative) + ("/" if is_folder else "")
        found = self._spec.check_file(path)
        return self._rules[found.index] if found.include and found.index is not None else None


def rules_for(root: Path, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> Rules:
    """The rules that hold for a project. Raises ProjectError when the ignore file cannot be read."""
    rules = [Rule(pattern, "default") for pattern in DEFAULT_RULES]
    rules += [Rule(line, IGNORE_FILE) for line in _lines(root / IGNORE_FILE)]
    rules += [Rule(pattern, "--exclude") for pattern in exclude]
    rules += [Rule("!" + pattern, "--include") for pattern in include]
    return Rules(rules)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="surrogateescape").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ProjectError(f"{path} cannot be read: {error.strerror}") from error
