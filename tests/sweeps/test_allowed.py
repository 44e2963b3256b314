"""Which numbers are points: the fast way over columns says the same as looking at each point alone."""

import itertools
import re
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from racksack_controller.sweeps.search import column_expressions
from racksack_controller.sweeps.search import grid as module
from racksack_controller.sweeps.search.grid import allowed
from racksack_jobspecs.sweep import expressions
from racksack_jobspecs.sweep.spec import Axis, SweepSpec, Target, params_of, point_numbers


def spec_of(*axes: Axis, where: str = "") -> SweepSpec:
    return SweepSpec(target=Target(), axes=axes, where=where)


def numbers(spec: SweepSpec) -> list[int]:
    return [point for low, high in allowed(spec) for point in range(low, high)]


def one_by_one(spec: SweepSpec) -> Iterator[int]:
    """The definition: a combination without its absent parameters, at the first of the numbers that share it."""
    seen = set()
    for number in range(point_numbers(spec)):
        params = params_of(spec, number)
        key = tuple(sorted((name, repr(value)) for name, value in params.items()))
        if key not in seen:
            seen.add(key)
            if not spec.where or expressions.leaves_in(spec.where, params):
                yield number


A = Axis("a", tuple(range(7)))
B = Axis("b", (0.5, 2.5, 4.5))
KIND = Axis("kind", ("knn", "svm", "tree"))
K = Axis("k", (1, 2, 3), "kind == 'knn'")
DEPTH = Axis("depth", (2, 4), "kind == 'tree' and a > 2")


@pytest.mark.parametrize(
    "spec",
    [
        spec_of(A, B),
        spec_of(A, B, where="a < b"),
        spec_of(A, B, where="a < b and not (b == 4.5) or a in (5, 6)"),
        spec_of(A, B, where="1 / a > 0.3"),
        spec_of(A, B, where="a % 2"),
        spec_of(A, B, where="(a if b > 1 else 10) > 3"),
        spec_of(A, B, where="max(a, b) ** 2 - abs(a - b) <= 16"),
        spec_of(KIND, K),
        spec_of(A, KIND, K, DEPTH, B),
        spec_of(A, KIND, K, DEPTH, where="k < a"),
        spec_of(A, KIND, where="kind != 'svm' and kind not in ('tree', 'x')"),
        spec_of(A, where="a > 100"),
    ],
    ids=lambda spec: f"{'*'.join(axis.name for axis in spec.axes)} {spec.where}",
)
@pytest.mark.parametrize("block", [1, 5, 1 << 18])
def test_the_columns_say_what_each_point_says(spec: SweepSpec, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    found = list(allowed(spec))
    assert numbers(spec) == list(one_by_one(spec))
    assert all(high < low for (_, high), (low, _) in itertools.pairwise(found)), "ranges that touch are one"


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 4), st.integers(1, 5), st.sampled_from(["a <= c", "a + c != 3", "c / a >= 1", "a and c", "-a < -c"])
)
def test_any_small_grid(height: int, width: int, where: str) -> None:
    spec = spec_of(Axis("a", tuple(range(height))), Axis("c", tuple(range(width))), where=where)
    assert numbers(spec) == list(one_by_one(spec))


def test_ten_million_numbers_are_looked_at_without_a_list_of_them() -> None:
    wide = tuple(range(216))
    spec = spec_of(Axis("x", wide), Axis("y", wide), Axis("z", wide), where="x < 3 and y < z")
    ranges = list(allowed(spec))
    assert sum(high - low for low, high in ranges) == 3 * 216 * 215 // 2
    assert len(ranges) < 3 * 216 + 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("__import__('os').system('x')", "calls what is no function"),
        ("().__class__.__bases__", "Attribute"),
        ("a.__class__", "Attribute"),
        ("[x for x in (1, 2)]", "ListComp"),
        ("lambda: 1", "Lambda"),
        ("f'{a}'", "JoinedStr"),
        ("a[0]", "Subscript"),
        ("a := 1", "NamedExpr"),
        ("a; b", "not an expression"),
        ("a\nb", "not an expression"),
        ("print(1)", "calls what is no function"),
        ("max(*a)", "Starred"),
        ("min()", "takes values"),
        ("b'x' == a", "holds b'x'"),
        ("(" * 500 + "a" + ")" * 500, "not an expression"),
        ("+".join("a" * 400), "more than"),
        ("a" * 3000, "characters"),
        ("", "is empty"),
    ],
)
def test_what_may_not_stand_in_an_expression(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        expressions.parse(text)


def test_a_mistyped_name_is_named() -> None:
    with pytest.raises(ValueError, match="did you mean fast"):
        expressions.check("fsat < slow", ["fast", "slow"])


def test_an_expression_cannot_eat_the_machine() -> None:
    for text in ("9 ** 9 ** 9 ** 9", "'x' * 1000000000", "2 ** a ** a"):
        with pytest.raises(ValueError, match="has no value"):
            column_expressions.evaluate(expressions.parse(text), {"a": 99999})
        with pytest.raises(ValueError, match="has no value"):
            expressions.evaluate(expressions.parse(text), {"a": 99999})
