"""What a list asks for, as a condition of SQL: the same words for jobs and for sweeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from racksack_controller.web.caller import number


def owner_of(query: Mapping[str, str], me: str) -> str | None:
    """Whose are asked for; None: everybody's. `me`: who asks."""
    owner = query.get("owner")
    return me if owner == "me" else owner


def condition(
    query: Mapping[str, str], owner: str | None, states: Sequence[str] | None, *, also_over: bool = False
) -> tuple[str, list[object]]:
    """The condition and its values for `all`, `name`, `fetched` and `before` of a query, an owner and states.

    Without any of them, and without `states`, those that are not over, or all with `also_over`. Refuses a `before` that
    is no number.
    """
    conditions, values = ["1"], list[object]()
    if states is not None:
        conditions.append(f"state IN ({', '.join('?' * len(states))})")
        values += states
    elif not also_over and query.get("all") != "1" and "name" not in query and "fetched" not in query:
        conditions.append("ended_at_s IS NULL")
    if owner is not None:
        conditions.append("owner = ?")
        values.append(owner)
    if "name" in query:
        conditions.append("name = ?")
        values.append(query["name"])
    if "fetched" in query:
        conditions.append("fetched = ? AND ended_at_s IS NOT NULL")
        values.append(int(query["fetched"] == "1"))
    if "before" in query:
        conditions.append("id < ?")
        values.append(int(number(query, "before", 0)))
    return " AND ".join(conditions), values
