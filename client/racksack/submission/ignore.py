"""Which entries of a project are sent, and which rule left the others out.

The rules, later ones winning as in a .gitignore: the defaults, the lines of `.racksackignore`, `--exclude`,
`--include`. They mean what they mean to git. `.gitignore` itself is not read: data that is not versioned is often what
a job needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from racksack.errors import ProjectError
from racksack.submission.gitwild import Pattern, parse

IGNORE_FILE = ".racksackignore"
DEFAULT_RULES = (
    ".git",
    ".venv",
    "venv",
    "__pycache__",
    "node_modules",
    "*.pyc",
    ".racksack-partial",
    ".racksack-command-*",
)
SECRET = "default, likely a secret"  # noqa: S105 - where rules come from
SECRET_RULES = (
    ".env", ".env.*", "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "*.pem", "*.p12", "*.pfx", ".netrc", ".pypirc",
    ".git-credentials", ".ssh", ".aws",
)  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """One line, and where it was written."""

    pattern: str
    source: str

    def __str__(self) -> str:
        """For the receipt."""
        return f"{self.pattern} ({self.source})"


EARLIER_RESULTS = Rule("results of earlier jobs", "default")


class Rules:
    """The rules of one submission, ready to be asked."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        parsed = ((rule, parse(rule.pattern)) for rule in rules)
        self._rules: list[tuple[Rule, Pattern]] = [(rule, found) for rule, found in parsed if found is not None]
        self._rules.reverse()  # the last one that matches decides

    def decides(self, relative: bytes, *, is_folder: bool) -> tuple[Rule, bool] | None:
        """The rule that decides about an entry, and whether it leaves it out; None where no rule means it.

        Nothing in a folder that is left out is to be asked about.
        """
        path = relative.decode("latin-1")  # git compares bytes
        name = path.rpartition("/")[2]
        for rule, pattern in self._rules:
            if pattern.matches(path, name, is_folder=is_folder):
                return rule, not pattern.is_negated
        return None


def rules_for(root: Path, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> Rules:
    """The rules that hold for a project. Raises ProjectError when the ignore file cannot be read."""
    rules = [Rule(pattern, "default") for pattern in DEFAULT_RULES]
    rules += [Rule(pattern, SECRET) for pattern in SECRET_RULES]
    rules += [Rule(line, IGNORE_FILE) for line in _lines(root / IGNORE_FILE)]
    rules += [Rule(pattern, "--exclude") for pattern in exclude]
    rules += [Rule("!" + pattern, "--include") for pattern in include]
    return Rules(rules)


def _lines(path: Path) -> Iterator[str]:
    try:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return
    except OSError as error:
        raise ProjectError(f"{path} cannot be read: {error.strerror}") from error
    yield from (line.removesuffix("\r") for line in text.removeprefix("\ufeff").split("\n"))
