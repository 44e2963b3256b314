"""Failures as `retry_on` and `no_retry_on` of a job file name them."""

from __future__ import annotations

import re

from racksack_jobspecs.readers import Kind, Report, list_of, shown, word_of
from racksack_jobspecs.yamltext import Node

_EXIT_CODE = re.compile(r"(?:exit:)?[0-9]{1,3}")


def failures_of(*kinds: str) -> Kind:
    """Failures, as words; `exit:29` is one exit code, and numbers behind it are further ones."""

    def read_word(node: Node, _path: str, _report: Report) -> str:
        word = word_of(node).lower()
        if word not in kinds and _EXIT_CODE.fullmatch(word) is None:
            raise ValueError(f"{shown(word)} is not a failure; write {', '.join(kinds)} or exit:CODE such as exit:29")
        code = word.removeprefix("exit:")
        if code.isdigit() and not 1 <= int(code) <= 255:
            raise ValueError(f"{shown(word)} is not the exit code of a failure; write a number from 1 to 255")
        return word

    pattern = f"^({'|'.join(kinds)}|(exit:)?[0-9]{{1,3}})$"
    words = list_of(Kind(read_word, {"type": ["string", "integer"], "pattern": pattern}), splits_at_commas=True)

    def read(node: Node, path: str, report: Report) -> tuple[str, ...]:
        found: list[str] = []
        for word in words.read(node, path, report):
            if word.isdigit() and not (found and found[-1].startswith("exit:")):
                raise ValueError(f"{word} is not a failure; write exit:{word} for an exit code")
            found.append(f"exit:{word}" if word.isdigit() else word)
        return tuple(dict.fromkeys(found))

    return Kind(read, words.schema)
