"""Every bad job file of `bad/` gets the sentences that stand beside it.

After a wording was changed on purpose: RACKSACK_UPDATE=1 pytest tests/jobspecs/test_bad_files.py, then read the diff.
"""

import os
from pathlib import Path

import pytest

from racksack_jobspecs.parse import JobFileError, parse_job

BAD = Path(__file__).parent / "bad"
CASES = sorted(path.stem for path in BAD.glob("*.yaml"))


def said(text: str | bytes) -> str:
    with pytest.raises(JobFileError) as caught:
        parse_job(text)
    return "".join(f"{problem}\n" for problem in caught.value.problems)


@pytest.mark.parametrize("case", CASES)
def test_each_mistake_has_its_sentence(case: str) -> None:
    expected = BAD / f"{case}.error"
    sentences = said((BAD / f"{case}.yaml").read_bytes())
    if os.environ.get("RACKSACK_UPDATE"):
        expected.write_text(sentences)
    assert sentences == expected.read_text()


@pytest.mark.parametrize("case", CASES)
def test_each_sentence_says_what_to_do(case: str) -> None:
    for line in (BAD / f"{case}.error").read_text().splitlines():
        assert ";" in line or "did you mean" in line, line
        assert "Error" not in line
        assert "Traceback" not in line


def test_no_sentence_is_left_without_its_case() -> None:
    assert {path.stem for path in BAD.glob("*.error")} == set(CASES)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"project: up1\nname: \xff\xfe\n", "line 2: the byte 0xff is not UTF-8; save the file as UTF-8\n"),
        (b"project: up1\x00\n", "line 1: there is a control character (0x00) here; remove it\n"),
        (b"project: up1\nname: \x1b[31m\n", "line 2: there is a control character (0x1b) here; remove it\n"),
        ("project: \ud800\n", "the text holds half a character (a lone surrogate); save the file as UTF-8\n"),
        (b"a: b\n" * 2_000_000, "the file is larger than 1024 KiB; put data into the project\n"),
        (b"", "line 1: the file is empty; write at least project and entrypoint\n"),
        (b"[" * 100_000, "line 1: this is nested more than 20 levels deep; write it flatter\n"),
        (b"- " * 100_000, "line 1: this is nested more than 20 levels deep; write it flatter\n"),
        (
            b"args: [" + b"a," * 30_000 + b"]",
            "line 1: there are more than 20000 values (aliases followed); write fewer\n",
        ),
    ],
    ids=["not utf-8", "nul", "escape", "surrogate", "10 MB", "empty", "deep flow", "deep block", "many values"],
)
def test_text_that_is_no_yaml_to_begin_with(text: str | bytes, sentence: str) -> None:
    assert said(text) == sentence


def test_the_key_of_a_refused_submission_is_known_where_it_is_legible() -> None:
    with pytest.raises(JobFileError) as caught:
        parse_job("project: up1\nentrypoint: /x\nsubmission: laptop-7\n")
    assert caught.value.submission == "laptop-7"


def test_a_byte_order_mark_is_no_mistake() -> None:
    assert parse_job("\ufeffproject: up1\nentrypoint: a.py\n").entrypoint == "a.py"
