"""When recurring jobs run: plain words and cron's fields, and what is neither."""

from __future__ import annotations

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from racksack_jobspecs.parse import JobFileError, parse_job
from racksack_jobspecs.recurrence import Recurrence, cron_of

HEAD = "project: up1\nentrypoint: main.py\n"


@pytest.mark.parametrize(
    ("text", "cron"),
    [
        ("Mon 02:00", "0 2 * * 1"),
        ("mon-fri 18:30", "30 18 * * 1-5"),
        ("Monday,Thursday 9:05", "5 9 * * 1,4"),
        ("daily 18:30", "30 18 * * *"),
        ("daily at 7:00", "0 7 * * *"),
        ("07:00", "0 7 * * *"),
        ("hourly", "0 * * * *"),
        ("Every day", "0 0 * * *"),
        ("weekly", "0 0 * * 1"),
        ("monthly", "0 0 1 * *"),
        ("15m", "*/15 * * * *"),
        ("every 30 minutes", "*/30 * * * *"),
        ("60m", "0 * * * *"),
        ("2h", "0 */2 * * *"),
        ("24h", "0 0 * * *"),
        ("0 2 * * 1", "0 2 * * 1"),
        (" */10   8-18 1,15 jan-mar mon-fri ", "*/10 8-18 1,15 jan-mar mon-fri"),
    ],
)
def test_what_can_be_written(text: str, cron: str) -> None:
    assert cron_of(text) == cron


@pytest.mark.parametrize(
    "text", ["", "7m", "5h", "0m", "25:00", "Mon 24:00", "Mon 02:60", "Someday 02:00", "now", "1 2 3 4", "60 * * * *",
             "* * 0 * *", "* * * 13 *", "5-2 * * * *", "*/0 * * * *", "* * * * * *", "a b c d e", "@reboot"],
)  # fmt: skip
def test_what_cannot_be_written(text: str) -> None:
    with pytest.raises(ValueError, match=r"does not say when|names no time|does not divide|not a field") as caught:
        cron_of(text)
    assert "Mon 02:00" in str(caught.value), "it says what to write"


@given(
    st.tuples(
        *(
            st.one_of(
                st.just("*"),
                st.integers(low, high).map(str),
                st.tuples(st.integers(low, high), st.integers(low, high)).map(
                    lambda ends: "{}-{}".format(*sorted(ends))
                ),
                st.integers(1, high).map(lambda step: f"*/{step}"),
            )
            for low, high in ((0, 59), (0, 23), (1, 28), (1, 12), (0, 6))
        )
    )
)
def test_whatever_is_taken_is_understood_by_the_controller(fields: tuple[str, ...]) -> None:
    from datetime import UTC, datetime

    assert next(CronSim(cron_of(" ".join(fields)), datetime(2026, 1, 1, tzinfo=UTC))) is not None


def test_the_key_of_a_job_file() -> None:
    assert parse_job(f"{HEAD}every: Mon 02:00\n").every == Recurrence("0 2 * * 1")
    whole = parse_job(f"{HEAD}every: {{at: daily 18:30, zone: Europe/Berlin, overlap: queue}}\n").every
    assert whole == Recurrence("30 18 * * *", "Europe/Berlin", "queue")
    with pytest.raises(JobFileError, match="Atlantis is not a time zone"):
        parse_job(f"{HEAD}every: {{at: hourly, zone: Atlantis}}\n")
