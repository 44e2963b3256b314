"""`racksack sweep status|top|points|export|compare`."""

from __future__ import annotations

import csv
import itertools
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from racksack.cli import complete, controller_option, json_option, open_client
from racksack.errors import UsageError
from racksack.ids import sweep_id
from racksack.text import clean, csv_cell, print_json, say

if TYPE_CHECKING:
    from racksack.client import Client
    from racksack.views import Ranking

_HELP = {"help_option_names": ["-h", "--help"]}
_FORMATS = click.Choice(["csv", "json", "jsonl", "parquet", "sqlite"])
_RUN = click.option("--run", type=click.Choice(["main", "control"]), default="main", help="Of which run. [main]")


@click.command("status", context_settings=_HELP)
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("-a", "--all", "everything", is_flag=True, help="Include finished sweeps, however old.")
@click.option("-u", "--user", "owner", metavar="USER", help="Only this user's; `me` for mine.")
@click.option("-w", "--watch", is_flag=True, help="Refresh every two seconds.")
@json_option
@controller_option
def status(
    ids: tuple[str, ...], everything: bool, owner: str | None, watch: bool, as_json: bool, controller: str | None
) -> int:
    """Show sweeps; with ids, each whole: progress, speeds by node, chunks, and the best points so far."""
    from racksack.text import show_screen

    with open_client(controller) as client:
        while True:
            text = _one(client, ids, as_json) if ids else _all(client, everything, owner, as_json)
            if text is not None:
                show_screen(text, clear=watch)
            if not watch:
                return 0
            time.sleep(2)


def _all(client: Client, everything: bool, owner: str | None, as_json: bool) -> str | None:
    import msgspec

    from racksack.sweep_client.text import sweeps_table

    found = client.sweeps(owner=owner, limit=1000 if everything else 20)
    if as_json:
        print_json(msgspec.to_builtins(found))
        return None
    return sweeps_table(found)


def _one(client: Client, ids: Sequence[str], as_json: bool) -> str | None:
    import msgspec

    from racksack.sweep_client.text import sweep_story

    stories = []
    for word in ids:
        view = client.sweep(sweep_id(client, word))
        if as_json:
            print_json(msgspec.to_builtins(view))
        else:
            best = client.sweep_top(view.id, n=5) if view.done or view.run == "control" else None
            stories.append(sweep_story(view, best))
    return "\n\n".join(stories) if stories else None


@click.command("top", context_settings=_HELP)
@click.argument("sweep", metavar="ID", shell_complete=complete("sweep_ids"))
@click.option("-n", "count", metavar="N", type=click.IntRange(1, 100_000), default=10, help="So many. [10]")
@click.option("--by", metavar="EXPR", help='A metric or an expression: "sharpe / (1 + drawdown)", "loss:min".')
@click.option("--pareto", is_flag=True, help="Only points that no other beats in every metric.")
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated values.")
@_RUN
@json_option
@controller_option
def top(
    sweep: str,
    count: int,
    by: str | None,
    pareto: bool,
    as_csv: bool,
    run: str,
    as_json: bool,
    controller: str | None,
) -> int:
    """Show the best points, also while the sweep runs; those of a control run stand beside them."""
    if pareto and by:
        raise click.UsageError("use either --pareto or --by")
    import msgspec

    from racksack.sweep_client.text import ranking_columns, ranking_table

    with open_client(controller) as client:
        ranking = client.sweep_top(sweep_id(client, sweep), n=count, by=by, run=run, pareto=pareto)
    if as_json:
        print_json(msgspec.to_builtins(ranking))
    elif as_csv:
        header, rows = ranking_columns(ranking)
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(map(csv_cell, header))
        writer.writerows(map(csv_cell, row) for row in rows)
    else:
        click.echo(ranking_table(ranking))
        if ranking.rows:
            which = "on the Pareto front" if pareto else f"with a value, by {clean(ranking.by)} ({ranking.direction})"
            say(f"{len(ranking.rows)} of {ranking.ranked:,} points {which}")
    return 0


@click.command("points", context_settings=_HELP)
@click.argument("sweep", metavar="ID", shell_complete=complete("sweep_ids"))
@click.argument("point", metavar="[POINT]", type=int, required=False)
@click.option("--failed", is_flag=True, help="Points that failed (the default without a POINT).")
@click.option("--waiting", is_flag=True, help="Only those waiting to be retried.")
@click.option("-n", "limit", metavar="N", type=click.IntRange(min=1), help="Show at most N.")
@_RUN
@json_option
@controller_option
def points(
    sweep: str,
    point: int | None,
    failed: bool,
    waiting: bool,
    limit: int | None,
    run: str,
    as_json: bool,
    controller: str | None,
) -> int:
    """Show the points that failed, with the reason; or one POINT with its parameters and metrics."""
    import msgspec

    from racksack.sweep_client.text import failures_table

    if point is not None and (failed or waiting):
        raise click.UsageError("name a point, or ask for those that failed, not both")
    with open_client(controller) as client:
        number = sweep_id(client, sweep)
        if point is not None:
            found = client.get(dict, f"sweeps/{number}/points", {"point": point, "run": run})
            print_json(found)
            return 0
        failures = list(itertools.islice(client.sweep_failures(number, run=run, waiting=waiting or None), limit))
    if as_json:
        print_json(msgspec.to_builtins(failures))
    else:
        click.echo(failures_table(failures))
    return 0


@click.command("importance", context_settings=_HELP)
@click.argument("sweep", metavar="ID", shell_complete=complete("sweep_ids"))
@_RUN
@json_option
@controller_option
def importance(sweep: str, run: str, as_json: bool, controller: str | None) -> int:
    """Show how much each parameter matters for the sweep's first metric."""
    from racksack.text import table

    with open_client(controller) as client:
        shares = client.get(list[dict[str, Any]], f"sweeps/{sweep_id(client, sweep)}/importance", {"run": run})
    if as_json:
        print_json(shares)
    elif not shares:
        click.echo("too few points have a value to tell")
    else:
        rows = [[clean(one["name"]), f"{100 * one['share']:.1f} %", "#" * round(30 * one["share"])] for one in shares]
        click.echo(table(("PARAMETER", "IMPORTANCE", ""), rows))
    return 0


@click.command("report", context_settings=_HELP)
@click.argument("sweep", metavar="ID", shell_complete=complete("sweep_ids"))
@click.option("-o", "--output", metavar="FILE", help="Output file; - for stdout. [sweep-ID.html]")
@_RUN
@controller_option
def report(sweep: str, output: str | None, run: str, controller: str | None) -> int:
    """Write a page of its own: what was tried, what is best and how sure that is, plots, how to repeat it."""
    with open_client(controller) as client:
        number = sweep_id(client, sweep)
        text = client.ask("GET", f"sweeps/{number}/report", {"run": run}).body.decode()
    if output == "-":
        click.echo(text, nl=False)
        return 0
    target = Path(output or f"sweep-{number}.html")
    try:
        target.write_text(text)
    except OSError as error:
        raise UsageError(f"{clean(target)} cannot be written: {error.strerror}") from error
    say(f"report in {clean(target)}")
    return 0


@click.command("export", context_settings=_HELP)
@click.argument("sweep", metavar="ID", shell_complete=complete("sweep_ids"))
@click.option("-o", "--output", metavar="FILE", help="Output file; - for stdout. [sweep-ID.csv]")
@click.option(
    "--format", "kind", type=click.Choice(["csv", "json", "jsonl", "parquet", "sqlite"]), help="[by FILE's ending]"
)
@_RUN
@controller_option
def export(sweep: str, output: str | None, kind: str | None, run: str, controller: str | None) -> int:
    """Write all results, in the order of the points: number, parameters, metrics, seconds, and how a point failed."""
    from racksack.sweep_client.export import kind_of, write

    with open_client(controller) as client:
        number = sweep_id(client, sweep)
        target = output or f"sweep-{number}.{kind or 'csv'}"
        rows = write(client, number, run, kind_of(target, kind), None if target == "-" else Path(target))
    if target != "-":
        say(f"{rows:,} points in {clean(target)}")
    return 0


@click.command("compare", context_settings=_HELP)
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option(
    "-n", "count", metavar="N", type=click.IntRange(1, 10_000), default=10, help="How many of A's best points. [10]"
)
@click.option("--by", metavar="EXPR", help="A metric or an expression.")
@json_option
@controller_option
def compare(first: str, second: str, count: int, by: str | None, as_json: bool, controller: str | None) -> int:
    """Put the best points of sweep A beside the points of sweep B that have the same parameters."""
    from racksack.sweep_client.compare import compared, comparison_table

    with open_client(controller) as client:
        one, other = sweep_id(client, first), sweep_id(client, second)
        if one == other:
            raise UsageError(f"{one} is compared with itself; name two sweeps")
        best = client.sweep_top(one, n=count, by=by)
        rows = compared(best, _whole(client, other, by or best.by))
    if as_json:
        print_json(rows)
    else:
        click.echo(comparison_table(rows, best.by, one, other))
    return 0


def _whole(client: Client, number: int, by: str) -> Ranking:
    return client.sweep_top(number, n=100_000, by=by)
