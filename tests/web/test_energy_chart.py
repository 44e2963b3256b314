"""The energy chart: what the bars add up to, and that they stay inside the picture."""

from __future__ import annotations

import pytest

from racksack_controller.energy.store import Slice
from racksack_controller.web.energy_chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, chart


def row(start_s: int, joules: float, always_j: float, idle_j: float = 0.0, span_s: int = 300) -> Slice:
    return Slice(start_s=start_s, span_s=span_s, joules=joules, always_j=always_j, idle_j=idle_j, known_s=span_s)


def test_nothing_known_is_no_picture() -> None:
    assert chart({}, 0, 86400) is None
    assert chart({"r1": [row(0, 0, 0)]}, 0, 86400) is None


def test_the_bars_add_up_and_stay_inside() -> None:
    rows = {"r1": [row(at, 3e4, 6e4, 1e4) for at in range(0, 7200, 300)], "r2": [row(600, 9e4, 9e4)]}
    picture = chart(rows, 0, 86400)
    assert picture is not None
    assert sum(bar.kwh for bar in picture.bars) == pytest.approx((24 * 3e4 + 9e4) / 3.6e6)
    for bar in picture.bars:
        assert bar.x >= LEFT
        assert bar.x + bar.width <= WIDTH - RIGHT + 0.6
        assert TOP - 0.01 <= bar.jobs_y <= bar.idle_y <= HEIGHT - BOTTOM
        assert bar.jobs_y + bar.jobs_height == pytest.approx(bar.idle_y)
        assert bar.always_y >= TOP - 0.01


def test_it_begins_where_something_is_known() -> None:
    picture = chart({"r1": [row(80_000, 3e4, 6e4), row(86_000, 3e4, 6e4)]}, 0, 86_400)
    assert picture is not None
    assert picture.step_s == 300
    assert picture.bars[0].x < LEFT + 20


def test_a_bar_that_has_only_begun_is_as_high_as_what_is_drawn() -> None:
    """100 W for five minutes, and for ten seconds of the next five; of another server only those seconds are known."""
    begun = Slice(start_s=300, joules=1000, always_j=1000, known_s=10)
    picture = chart({"r1": [row(0, 30_000, 30_000), begun], "r2": [begun]}, 0, 310)
    assert picture is not None
    first, second = picture.bars
    assert first.jobs_height == pytest.approx((HEIGHT - TOP - BOTTOM) * 0.1 / picture.scale[-1].value)
    assert second.jobs_height == pytest.approx(2 * first.jobs_height)
    assert second.kwh == pytest.approx(2000 / 3.6e6)


@pytest.mark.parametrize("days", [1, 7, 30, 365])
def test_however_long_there_are_not_too_many_bars(days: int) -> None:
    rows = [row(at, 1e5, 2e5, span_s=3600) for at in range(0, days * 86400, 3600)]
    picture = chart({"r1": rows}, 0, days * 86400)
    assert picture is not None
    assert len(picture.bars) <= 370
    assert picture.scale[-1].value >= max(bar.kwh for bar in picture.bars) * 3600 / picture.step_s / 1.0001
