"""Packing of batches: made-up items against bounds, and the public instances where they are at hand."""

from __future__ import annotations

import csv
import gzip
import random
import tarfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from racksack_controller.core.placing.bin_packing import (
    UNPLACED,
    Ints,
    dot_product,
    fewest_nodes,
    greedy,
    least_nodes,
    place_most,
)
from tests.sizes import sized

STEPS = 6000
EACH = sized(5, 1)  # of the recorded instances, every fifth


def check(items: Ints, free: Ints, placed: Ints) -> None:
    """No node is over-committed."""
    load = np.zeros_like(free)
    on = placed != UNPLACED
    np.add.at(load, placed[on], items[on])
    assert np.all(load <= free)


def nodes_by_best_fit(items: Ints, free: Ints) -> int:
    """The fewest nodes that best fit decreasing uses, by any of the usual sizes of an item; a plain one of its own."""
    parts = items / free.max(axis=0)
    found = []
    for size in (parts.sum(axis=1), parts.max(axis=1), np.sqrt((parts**2).sum(axis=1)), parts.prod(axis=1)):
        left: list[np.ndarray] = []
        for item in items[np.argsort(-size, kind="stable")]:
            fits = [node for node in left if np.all(node >= item)]
            node = min(fits, key=lambda one: float(((one - item) / free[0]).sum())) if fits else free[0].copy()
            if not fits:
                left.append(node)
            node -= item
        found.append(len(left))
    return min(found)


def panigrahy_like(seed: int) -> tuple[Ints, Ints]:
    """An instance in the style of the public ones: classes of small, large, correlated and opposed demands."""
    rng = np.random.default_rng(seed)
    count, dimensions, kind = int(rng.choice([40, 120])), int(rng.choice([3, 5])), seed % 5
    if kind == 0:
        items = rng.integers(100, 401, size=(count, dimensions))
    elif kind == 1:
        items = rng.integers(1, 1001, size=(count, dimensions))
    elif kind == 2:
        items = rng.integers(200, 801, size=(count, dimensions))
    elif kind == 3:
        items = np.clip(
            rng.integers(50, 500, size=(count, 1)) + rng.integers(-50, 51, size=(count, dimensions)), 1, 1000
        )
    else:
        first = rng.integers(50, 951, size=(count, 1))
        items = np.concatenate([first, 1000 - first, rng.integers(1, 400, size=(count, dimensions - 2))], axis=1)
    return items.astype(np.int64), np.full((count, dimensions), 1000)


@pytest.mark.parametrize("seed", range(10))
def test_never_worse_than_best_fit_decreasing_on_made_up_instances(seed: int) -> None:
    items, free = panigrahy_like(seed)
    placed = fewest_nodes(items, free, greedy(items, free), random.Random(seed), 200)
    check(items, free, placed)
    assert UNPLACED not in placed
    assert least_nodes(items, free) <= len(set(placed.tolist())) <= nodes_by_best_fit(items, free)


@pytest.mark.parametrize("seed", range(4))
def test_packings_are_feasible_and_better_than_the_greedy_start(seed: int) -> None:
    rng = np.random.default_rng(seed)
    items = rng.integers(100, 500, size=(60, 3))
    free = np.full((60, 3), 1000)
    start = dot_product(items, free)
    better = fewest_nodes(items, free, start, random.Random(seed), 2000)
    check(items, free, better)
    assert UNPLACED not in better
    assert least_nodes(items, free) <= len(set(better.tolist())) <= len(set(start.tolist()))


def test_equal_input_gives_equal_output() -> None:
    items = np.random.default_rng(1).integers(100, 500, size=(40, 3))
    free = np.full((40, 3), 1000)
    start = dot_product(items, free)
    runs = [fewest_nodes(items, free, start, random.Random(1), 500).tolist() for _ in range(2)]
    assert runs[0] == runs[1]


def test_a_perfect_packing_of_unequal_nodes_is_found() -> None:
    """Nodes cut into pieces: everything fits, with nothing to spare."""
    rng = np.random.default_rng(5)
    free = rng.integers(500, 2000, size=(8, 2))
    pieces = [np.diff(np.sort(rng.integers(0, size, size=3)), prepend=0, append=size) for size in free.ravel()]
    items = np.stack([np.concatenate(pieces[0::2]), np.concatenate(pieces[1::2])], axis=1)
    slack = free + 40
    placed = place_most(items, slack, dot_product(items, slack), random.Random(1), 20_000)
    check(items, slack, placed)
    assert UNPLACED not in placed


def test_more_than_there_is_room_for_is_not_searched_for() -> None:
    """A search of so many steps would never end."""
    items, free = np.full((5, 2), [4, 1]), np.full((2, 2), [8, 8])
    placed = place_most(items, free, np.array([0, 0, 1, 1, UNPLACED]), random.Random(1), 10**15)
    assert placed.tolist() == [0, 0, 1, 1, UNPLACED]


def test_nobody_is_put_where_he_may_not_be() -> None:
    items = np.array([[6], [5], [5], [4]])
    free = np.array([[10], [10]])
    allowed = np.array([[True, True], [True, False], [True, True], [True, True]])
    placed = place_most(items, free, np.array([0, UNPLACED, 1, 1]), random.Random(1), 500, allowed)
    check(items, free, placed)
    assert placed[1] == 0
    assert UNPLACED not in placed


def panigrahy(traces: Path) -> Iterator[tuple[str, Ints, Ints]]:
    with tarfile.open(traces / "packing/Panigrahy_subset.tar.gz") as archive:
        for member in archive.getmembers():
            file = archive.extractfile(member)
            if file is None:
                continue
            lines = file.read().decode().splitlines()
            dimensions, capacity, count = int(lines[0]), [int(word) for word in lines[1].split()], int(lines[2])
            rows = [[int(word) for word in line.split()[:dimensions]] for line in lines[3 : 3 + count]]
            yield Path(member.name).stem, np.array(rows), np.tile(capacity, (count, 1))


@pytest.mark.traces
@pytest.mark.timeout(1800)
def test_panigrahy_instances_within_one_percent_of_the_best_known(traces: Path) -> None:
    with (traces / "packing/Panigrahy_subset_known.csv").open() as file:
        rows = {row["instance_name"]: row for row in csv.DictReader(file, delimiter="\t")}
    ours = best = 0
    for name, items, free in islice(panigrahy(traces), 0, None, EACH):
        placed = fewest_nodes(items, free, greedy(items, free), random.Random(1), STEPS)
        check(items, free, placed)
        used = len(set(placed.tolist()))
        assert used <= nodes_by_best_fit(items, free), name
        optimum, known = int(rows[name]["OPT"]), int(rows[name]["best_overall"])
        ours, best = ours + used, best + (optimum if optimum > 0 else known)
    assert ours <= 1.01 * best, f"{ours} nodes, best known {best}"


def roadef(folder: Path, number: int) -> tuple[Ints, Ints, Ints]:
    """Items, machines and a feasible assignment of a model of the machine reassignment challenge."""
    with gzip.open(folder / f"model_a1_{number}.txt.gz", "rt") as file:
        words = iter([int(word) for word in file.read().split()])
    take = lambda count: [next(words) for _ in range(count)]  # noqa: E731
    resources = take(1)[0]
    take(2 * resources)
    machines = take(1)[0]
    free = []
    for _ in range(machines):
        free.append(take(2 + resources)[2:])
        take(resources + machines)
    for _ in range(take(1)[0]):
        take(take(2)[1])
    items = [take(resources + 2)[1:-1] for _ in range(take(1)[0])]
    with gzip.open(folder / f"assignment_a1_{number}.txt.gz", "rt") as file:
        assignment = [int(word) for word in file.read().split()]
    return np.array(items), np.array(free), np.array(assignment)


@pytest.mark.traces
@pytest.mark.parametrize("number", range(1, 6))
def test_roadef_machines_hold_all_that_a_given_assignment_shows_to_fit(traces: Path, number: int) -> None:
    items, free, assignment = roadef(traces / "packing/roadef2012", number)
    check(items, free, assignment)
    placed = place_most(items, free, greedy(items, free), random.Random(1), 20_000)
    check(items, free, placed)
    assert UNPLACED not in placed
