"""Whatever a job file holds, the only thing that comes out is a spec or a JobFileError, and soon."""

import random
import time
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from racksack_jobspecs.fields import JOB_FIELDS
from racksack_jobspecs.parse import JobFileError, parse_job
from racksack_jobspecs.readers import PROBLEMS_MAX
from racksack_jobspecs.spec import JobSpec
from racksack_jobspecs.write import job_file, quoted
from tests.sizes import sized

SEEDS = [
    path.read_bytes()
    for folder in (Path(__file__).parent / "bad", Path(__file__).parents[2] / "jobspecs" / "examples")
    for path in sorted(folder.glob("*.yaml"))
]
TOKENS = [
    b"&a ",
    b"*a",
    b"<<: ",
    b"- ",
    b": ",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\n",
    b"\t",
    b"'",
    b'"',
    b"!!",
    b"%",
    b"|",
    b">",
    b"\\",
    b"\xff",
    b"\x00",
    b"# ",
    b"..",
    b"-",
    b"9" * 30,
    b"? ",
    b"---\n",
    b"~",
]


def outcome(text: str | bytes) -> JobSpec | JobFileError:
    try:
        return parse_job(text)
    except JobFileError as caught:
        error = caught
    assert 1 <= len(error.problems) <= PROBLEMS_MAX + 1
    for problem in error.problems:
        assert "\n" not in str(problem)
        assert len(str(problem)) < 1000
    return error


def test_damaged_files() -> None:
    chance = random.Random(20260801)
    for _ in range(sized(1000, 20_000)):
        text = bytearray(chance.choice(SEEDS))
        for _ in range(chance.randrange(1, 6)):
            at = chance.randrange(len(text) + 1)
            text[at : at + chance.randrange(4)] = chance.choice(TOKENS)
        outcome(bytes(text))


@given(st.binary(max_size=300))
def test_any_bytes(text: bytes) -> None:
    outcome(text)


@given(st.text(max_size=300))
def test_any_text(text: str) -> None:
    outcome(text)


@given(st.dictionaries(st.sampled_from([field.key for field in JOB_FIELDS]), st.text(max_size=40), max_size=8))
@settings(max_examples=sized(100, 2000))
def test_any_values_under_the_right_keys(values: dict[str, str]) -> None:
    spec = outcome("".join(f"{key}: {quoted(value)}\n" for key, value in values.items() if value.isprintable()))
    if isinstance(spec, JobSpec):
        assert parse_job(job_file(spec)) == spec


def nested(depth: int, width: int) -> str:
    """A mapping whose levels each repeat the one before by aliases."""
    rows = [f"a0: &a0 [{', '.join(['x'] * width)}]"]
    rows += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * width)}]" for level in range(1, depth)]
    return "\n".join(rows)


def test_no_file_takes_long() -> None:
    """The largest files that are read at all, of every shape that could be dear. The bound is generous on purpose."""
    big = 1024 * 1024 - 100
    for text in (
        nested(200, 100),
        "args: [" + "a," * (big // 2),
        "a: " * (big // 3),
        "{" * big,
        "x: &a [" + "*a," * (big // 4),
        "k: v\n" * (big // 5),
        '"' + "\\x41" * (big // 4) + '"',
        "array: " + "1," * (big // 2),
        "array: [" + ", ".join(f"{at}-{at + 99_000}" for at in range(0, 9000, 100)) + "]",
        "name: " + "a" * big,
        "&a x: *a\n" * (big // 10),
        "<<: {a: 1}\n" * (big // 11),
    ):
        began_s = time.thread_time()
        outcome(text)
        took_s = time.thread_time() - began_s
        print(f"{took_s:.2f} s {text[:40]!r}")
        assert took_s < 10, text[:40]
