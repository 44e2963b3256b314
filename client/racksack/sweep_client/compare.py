"""Two sweeps side by side: the best points of one, and what the same parameters gave in the other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from racksack.sweep_client.text import number_text
from racksack.text import clean, table
from racksack.views import Ranking


def compared(best: Ranking, other: Ranking) -> list[dict[str, Any]]:
    """For each of the best points its value in both sweeps, and its rank in the other; None where it has none there."""
    known = {_key(row.params): (rank, row) for rank, row in enumerate(other.rows, 1)}
    rows = []
    for rank, row in enumerate(best.rows, 1):
        other_rank, twin = known.get(_key(row.params), (None, None))
        value = None if twin is None else twin.value
        rows.append(
            {
                "rank": rank,
                "other_rank": other_rank,
                "params": row.params,
                "value": row.value,
                "other_value": value,
                "difference": None if value is None else value - row.value,
            }
        )
    return rows


def _key(params: Mapping[str, Any]) -> str:
    return json.dumps(params, sort_keys=True)


def comparison_table(rows: Sequence[Mapping[str, Any]], by: str, one: int, other: int) -> str:
    """The rows for people."""
    if not rows:
        return f"so far no point of sweep {one} has a number for {clean(by)}"
    names = list(dict.fromkeys(name for row in rows for name in row["params"]))
    header = ["rank", f"in {other}", *map(clean, names), f"{clean(by)} ({one})", f"({other})", "difference"]
    lines = []
    for row in rows:
        params = [number_text(row["params"].get(name, "")) for name in names]
        figures = [_text(row["value"]), _text(row["other_value"]), _text(row["difference"])]
        lines.append([str(row["rank"]), _text(row["other_rank"]), *params, *figures])
    return table(header, lines, right=header)


def _text(value: object) -> str:
    return "-" if value is None else number_text(value)
