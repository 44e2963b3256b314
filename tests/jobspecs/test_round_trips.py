"""What is written can be read again, to the last character and byte."""

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from racksack_jobspecs import units
from racksack_jobspecs.parse import parse_job
from racksack_jobspecs.spec import JobSpec
from racksack_jobspecs.write import job_file, quoted
from tests.jobspecs.strategies import characters, specs


@given(specs())
@example(
    JobSpec(
        name="a: b", project="up", entrypoint="x\u00a0y.py", args=("", "null", "- x", "#", "\u2028", "\x85", "\ufeff")
    )
)
@example(JobSpec(name="'<b>\"$(rm)`", project="up", entrypoint="m.py", args=("\n", "\t", "\r\n", "\\", "yes", "3.10")))
def test_a_spec_comes_back_the_same(spec: JobSpec) -> None:
    assert parse_job(job_file(spec)) == spec


@given(specs())
@settings(max_examples=20)
def test_other_readers_see_a_mapping(spec: JobSpec) -> None:
    assert yaml.safe_load(job_file(spec))["project"] is not None


@given(st.text(characters))
def test_other_readers_see_the_same_text(text: str) -> None:
    assert yaml.safe_load(f"x: {quoted(text)}\n") == {"x": text}


@pytest.mark.parametrize("name", ["caf\udce9.txt", "\udcff"])
def test_text_that_no_file_can_hold_is_refused_with_a_sentence(name: str) -> None:
    with pytest.raises(ValueError, match="not Unicode text"):
        job_file(JobSpec(name="x", project="up", entrypoint="m.py", args=(name,)))


@given(st.integers(1, units.MEMORY_BYTES_MAX))
def test_memory(size_bytes: int) -> None:
    assert units.parse_memory(units.exact_memory(size_bytes)) == size_bytes


@given(st.floats(units.DURATION_S_MIN, units.DURATION_S_MAX))
def test_durations(duration_s: float) -> None:
    assert units.parse_duration(units.exact_duration(duration_s)) == duration_s


@given(st.integers(1, units.CPUS_MAX * 1000))
def test_cpus(thousandths: int) -> None:
    cpus = thousandths / 1000
    assert units.parse_cpus(repr(cpus)) == cpus


@given(st.integers(1, 2**50))
def test_what_is_shown_of_a_size_is_near_it(size_bytes: int) -> None:
    shown = units.parse_memory(units.format_memory(size_bytes))
    assert abs(shown - size_bytes) <= size_bytes * 0.06


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("32G", 32 << 30), ("32GiB", 32 << 30), ("32gb", 32 << 30), ("512M", 512 << 20), ("1.5T", 3 << 39), ("100B", 100)],
)
def test_sizes_as_people_write_them(text: str, size_bytes: int) -> None:
    assert units.parse_memory(text) == size_bytes


@pytest.mark.parametrize(
    ("text", "duration_s"),
    [
        ("2h", 7200),
        ("90m", 5400),
        ("1h30m", 5400),
        ("2:00:00", 7200),
        ("1-12:00:00", 129600),
        ("7d", 604800),
        ("1.5h", 5400),
        ("500ms", 0.5),
        ("1s500ms", 1.5),
    ],
)
def test_durations_as_people_write_them(text: str, duration_s: float) -> None:
    assert units.parse_duration(text) == duration_s


def test_a_moment_just_after_1970_is_written_without_an_exponent() -> None:
    spec = JobSpec(name="a", project="p", entrypoint="main.py", deadline_at_s=1e-06)
    assert parse_job(job_file(spec)) == spec
