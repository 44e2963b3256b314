"""What a job waits for, as text: `41`, `afterany:15[3]`, `afterok:15:16`, `aftercorr:train`, `singleton`.

The words mean what they mean to Slurm. Both ways between text and `Dependency` are here.
"""

from __future__ import annotations

import re

from racksack_jobspecs.spec import Dependency

SINGLETON = "singleton"
_PREFIX = re.compile(r"(?:after)?(ok|any|notok|corr):", re.IGNORECASE)
_FOREIGN = re.compile(r"(after|afterburstbuffer|expand):", re.IGNORECASE)
_ELEMENT = re.compile(r"([0-9]{1,15})(?:\[([0-9]{1,10})\]|_([0-9]{1,10}))")
_ANY_OF = re.compile(r"[0-9\]]\?(?:after|[0-9])")
_ID = re.compile(r"[0-9]{1,15}")
_HOW = "write its id or name, 15[3] for one element of an array, or any:ID to start however it ends"
NAME_CHARS_MAX = 100


def _shown(text: str) -> str:
    from racksack_jobspecs.readers import shown  # it reads YAML, which those who only write need not import

    return shown(text)


def element_of(text: str) -> tuple[int, int] | None:
    """The array's id and the index of `15[3]`, or None for any other text."""
    match = _ELEMENT.fullmatch(text)
    return (int(match[1]), int(match[2])) if match and match[2] is not None else None


def parse_dependencies(text: str) -> tuple[Dependency, ...]:
    """The dependencies that one word means, more than one for `afterok:15:16`. Raises ValueError with a sentence."""
    word = text.strip()
    if word.lower() == SINGLETON:
        return (Dependency("", SINGLETON),)
    if _FOREIGN.match(word):
        raise ValueError(f"{_shown(word)} is not available; write afterok, afterany, afternotok or aftercorr:ID")
    match = _PREFIX.match(word)
    condition, rest = (match[1].lower(), word[match.end() :].strip()) if match else ("ok", word)
    if _ANY_OF.search(rest):
        raise ValueError(
            f"{_shown(word)} asks for any one of several jobs, which is not supported; name all, with commas"
        )
    parts = rest.split(":")
    if len(parts) > 1 and all(_names_one(part) for part in parts):
        return tuple(Dependency(_canonical(part), condition) for part in parts)
    return (Dependency(_checked(rest, word), condition),)


def format_dependency(dependency: Dependency) -> str:
    """The word that `parse_dependencies` reads back."""
    if dependency.condition == SINGLETON:
        return SINGLETON
    is_plain = dependency.condition == "ok" and not _is_special(dependency.job)
    return dependency.job if is_plain else f"after{dependency.condition}:{dependency.job}"


def _is_special(name: str) -> bool:
    """Whether a name alone would be read as something else."""
    return bool(_PREFIX.match(name) or _FOREIGN.match(name) or name.lower() == SINGLETON)


def _names_one(part: str) -> bool:
    return bool(_ID.fullmatch(part) or _ELEMENT.fullmatch(part))


def _canonical(name: str) -> str:
    """`15_3`, as Slurm writes it, is `15[3]`."""
    match = _ELEMENT.fullmatch(name)
    return f"{match[1]}[{match[2] or match[3]}]" if match else name


def _checked(name: str, word: str) -> str:
    if not name or not name.isprintable() or len(name) > NAME_CHARS_MAX:
        raise ValueError(f"{_shown(word) or 'nothing'} does not name a job; {_HOW}")
    if re.match(r"[0-9]+\[", name) and not _ELEMENT.fullmatch(name):
        raise ValueError(f"{_shown(name)} is not an element of an array; write each one by itself, such as 15[3]")
    return _canonical(name)
