"""The cheapest set of nodes against trying all of them."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from racksack_controller.core.placing.bin_packing import Ints
from racksack_controller.core.power.cheapest_set import Bin, cheapest, holds
from tests.sizes import sized


def packs(items: list[tuple[int, int]], bins: list[Bin]) -> bool:
    """Whether the bins hold the items, by trying everything."""

    def place(at: int, left: list[list[int]]) -> bool:
        if at == len(items):
            return True
        for index, one in enumerate(bins):
            if one.allowed[at] and all(a <= b for a, b in zip(items[at], left[index], strict=True)):
                after = [list(row) for row in left]
                after[index] = [b - a for a, b in zip(items[at], left[index], strict=True)]
                if place(at + 1, after):
                    return True
        return False

    return place(0, [list(one.free) for one in bins])


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[tuple[int, int]], list[Bin]]:
    items = draw(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=6))
    kinds = draw(st.lists(st.tuples(st.integers(2, 12), st.integers(2, 12), st.integers(1, 9)), min_size=1, max_size=4))
    allowed = st.lists(st.sampled_from([True, True, True, False]), min_size=len(items), max_size=len(items))
    bins = [
        Bin((cpus, ram), float(cost), tuple(draw(allowed)))
        for cpus, ram, cost in kinds
        for _ in range(draw(st.integers(1, 2)))
    ]
    return items, bins


@settings(max_examples=sized(40, 400), deadline=None)
@given(problems())
def test_no_set_is_cheaper(problem: tuple[list[tuple[int, int]], list[Bin]]) -> None:
    items, bins = problem
    found = cheapest(np.array(items), bins)
    costs = [
        sum(one.cost for one in chosen)
        for count in range(len(bins) + 1)
        for chosen in itertools.combinations(bins, count)
        if packs(items, list(chosen))
    ]
    if not costs:
        assert found is None
    else:
        assert found is not None
        assert len(set(found)) == len(found)
        assert packs(items, [bins[index] for index in found])
        assert sum(bins[index].cost for index in found) == min(costs)


def equal(count: int, free: tuple[int, ...], cost: float, items: int) -> list[Bin]:
    return [Bin(free, cost, (True,) * items)] * count


def test_one_large_server_rather_than_four_small_ones() -> None:
    items = np.array([[4]] * 16)
    bins = equal(6, (16,), 100.0, 16) + equal(1, (64,), 300.0, 16)
    assert cheapest(items, bins) == [6]
    dear = equal(6, (16,), 100.0, 16) + equal(1, (64,), 500.0, 16)
    assert cheapest(items, dear) == [0, 1, 2, 3]


def test_a_packing_that_heuristics_miss_is_found() -> None:
    """First fit decreasing needs three bins of 20 for these: 10 9 8 6 5 2 = 40."""
    items = np.array([[10], [9], [8], [6], [5], [2]])
    assert cheapest(items, equal(3, (20,), 1.0, 6)) == [0, 1]


def test_of_many_unequal_nodes_the_greedy_choice_holds_everything_within_its_bound() -> None:
    rng = np.random.default_rng(3)
    items: Ints = rng.integers(1, 8, size=(60, 2))
    bins = [
        Bin((int(cpus), int(ram)), float(cpus + ram + rng.integers(0, 9)), (True,) * 60)
        for cpus, ram in rng.integers(8, 40, size=(40, 2))
    ]
    found = cheapest(items, bins)
    assert found is not None
    assert holds(items, [bins[index] for index in found])
    per_unit = min(one.cost / sum(one.free) for one in bins)
    bound = per_unit * items.sum()
    assert sum(bins[index].cost for index in found) <= (1 + np.log(len(items))) * bound


def test_a_search_without_hope_ends() -> None:
    """There is room enough in all, but three sevens leave a hole of three in each bin."""
    items = np.array([[7]] * 36 + [[5]])
    assert cheapest(items, equal(12, (24,), 1.0, 37)) is None
