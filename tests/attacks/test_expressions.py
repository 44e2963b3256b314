"""An expression is a stranger's text: whatever it says costs a bounded amount of memory, for one point or for many."""

import re
import tracemalloc

import numpy as np
import pytest

from racksack_controller.sweeps.search import column_expressions
from racksack_controller.sweeps.search import grid as module
from racksack_controller.sweeps.search.grid import allowed
from racksack_jobspecs.sweep import expressions
from racksack_jobspecs.sweep.spec import Axis, SweepSpec, Target

ROWS = 1 << 16
NUMBERS = np.arange(ROWS)
TEXTS = np.array(["x" * 1000, "y"], dtype=object)[NUMBERS % 2]
MIXED = np.array([1, 2.5, None, "z"], dtype=object)[NUMBERS % 4]
COLUMNS = {"a": NUMBERS, "b": NUMBERS / 7, "s": TEXTS, "m": MIXED}
POINT = {"a": 99_999, "b": 0.5, "s": "x" * 1000, "m": None}

UNREADABLE = [
    ("a in [1] * 100000000000", "in needs a list on its right"),
    ("a in [0] * 12000", "in needs a list on its right"),
    ("a in (1, 2) + (3, 4)", "in needs a list on its right"),
    ("[1] * 30000000 == a", "a list where none may stand"),
    ("(a, b) == (1, 2)", "a list where none may stand"),
    ("a in [[1], [2]]", "a list where none may stand"),
    ("a in (1, (2, 3))", "a list where none may stand"),
    ("a in [1] == b", "a list where none may stand"),
    ("max([a, b]) > 1", "a list where none may stand"),
    ("len(a) > 3", "calls what is no function"),
    ("(a if a else [b])", "a list where none may stand"),
    ("a in s", "in needs a list on its right"),
    ("a in (" + "1," * 950 + ")", ""),
    ("f'{a:>1000000000}' == s", "JoinedStr"),
    ("s[0:1]", "Subscript"),
    ("a << 100000000", "LShift"),
    ("1j * a", "holds 1j"),
    ("9" * 1900 + " * a", "beyond 64 bits"),
    ("-" * 1500 + "a", "more than"),
    ("not " * 260 + "a", "more than"),
    ("not " * 230 + "a", "deep"),
    ("a < " * 300 + "b", "more than"),
]


@pytest.mark.parametrize(("text", "words"), UNREADABLE, ids=lambda text: text[:30])
def test_what_has_no_bound_is_not_an_expression(text: str, words: str) -> None:
    if not words:
        expressions.parse(text)  # a long list of choices is
        return
    with pytest.raises(ValueError, match=re.escape(words)):
        expressions.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "9 ** 9 ** 9",
        "2.0 ** a ** a",
        "'x' * 1000000000",
        "s * 1000000000",
        "1000000000 * s == s",
        "s + s",
        "s + 'y' == 'y'",
        "'%2000000000d' % a",
        "s % a",
        "'%1000000000s' % s == s",
        "-s",
        "+s",
        "abs(s)",
        "m * 1000000000",
        "('x' if a > 3 else s) * 1000000000",
        "min(s, 'y') * 1000000000",
    ],
)
def test_arithmetic_is_for_numbers_and_small_exponents(text: str) -> None:
    expression = expressions.parse(text)
    with pytest.raises(ValueError, match="has no value"):
        expressions.evaluate(expression, POINT)
    with pytest.raises(ValueError, match="has no value"):
        column_expressions.evaluate(expression, COLUMNS)


LARGE = [
    "a in (" + ",".join(map(str, range(400))) + ")",
    "s in (" + ",".join(f"'{number}'" for number in range(300)) + ")",
    " or ".join(["a < b"] * 80),
    " < ".join(["a"] * 150),
    "max(" + ", ".join(["a"] * 200) + ") > 3",
    "+".join(["a"] * 120) + " > 3",
    "a" + "+(a" * 90 + ")" * 90 + " > 3",
    " * ".join(["a"] * 120) + " > 3",
    "('" + "x" * 1900 + "' if a > b else 'y') == 'z'",
    "floor(1e300) * floor(1e300) * a > 3",
]


@pytest.mark.parametrize("text", LARGE, ids=lambda text: text[:25])
def test_memory_is_bounded_whatever_is_evaluated(text: str) -> None:
    expression = expressions.parse(text)
    rows = column_expressions.rows_at_once([expression], len(COLUMNS))
    some = {name: np.resize(column, rows) for name, column in COLUMNS.items()}
    tracemalloc.start()
    try:
        column_expressions.evaluate(expression, some)
        expressions.evaluate(expression, POINT)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * column_expressions.BLOCK_BYTES, f"{peak / 2**20:.0f} MiB for {rows} rows"


@pytest.mark.parametrize(
    "text", ["a * a * a", "a + 9223372036854775807", "a - 9223372036854775807 - a", "floor(b * 1e30)"]
)
def test_whole_numbers_beyond_64_bits_go_on_as_floats_for_one_and_for_many(text: str) -> None:
    expression = expressions.parse(text)
    point = {"a": 5_000_000, "b": 0.5}
    one = expressions.evaluate(expression, point)
    many = column_expressions.evaluate(expression, {name: np.array([value]) for name, value in point.items()})
    assert float(one) == pytest.approx(float(many[0]))
    assert abs(one) > 2**62


def test_a_grid_in_very_many_pieces_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RANGES_MAX", 500)
    spec = SweepSpec(target=Target(), axes=(Axis("a", tuple(range(2000))),), where="a % 2 == 0")
    with pytest.raises(ValueError, match="more than 500 pieces"):
        list(allowed(spec))


def test_columns_that_no_condition_names_cost_nothing() -> None:
    axes = tuple(Axis(f"p{number}", (0, 1) if number < 16 else (0,)) for number in range(100))
    spec = SweepSpec(target=Target(), axes=axes, where="p3 < p4")
    tracemalloc.start()
    try:
        assert sum(high - low for low, high in allowed(spec)) == 2**14
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20 * 2**20
