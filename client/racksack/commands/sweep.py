"""`racksack sweep`: one function or program over many combinations of parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from racksack.cli import F, Lazy, LazyGroup, controller_option, json_option, open_client
from racksack.commands.submit import SubmitCommand

if TYPE_CHECKING:
    from racksack.sweep_run import SweepWish

_HELP = {"help_option_names": ["-h", "--help"]}
_SPACE, _LOOK, _ACT = "Begin", "Look", "Act"

TABLE = {
    "run": Lazy("racksack.commands.sweep:run_command", "Run DIR FILE.py:FUNCTION over a space of parameters.", _SPACE),
    "status": Lazy("racksack.commands.sweep_look:status", "Show sweeps, or one of them whole.", _LOOK),
    "top": Lazy("racksack.commands.sweep_look:top", "Show the best points, by a metric or an expression.", _LOOK),
    "points": Lazy("racksack.commands.sweep_look:points", "Show points that failed, or one point.", _LOOK),
    "export": Lazy("racksack.commands.sweep_look:export", "Write all results to a file: CSV, JSON or Parquet.", _LOOK),
    "compare": Lazy("racksack.commands.sweep_look:compare", "Put the best points of two sweeps side by side.", _LOOK),
    "wait": Lazy("racksack.commands.sweep_act:wait", "Show how a sweep goes on until it is over.", _LOOK),
    "stop": Lazy("racksack.commands.sweep_act:stop", "Compute no more until it is resumed.", _ACT),
    "resume": Lazy("racksack.commands.sweep_act:resume", "Go on with what is missing.", _ACT),
    "retry": Lazy("racksack.commands.sweep_act:retry", "Run exactly the failed points again.", _ACT),
    "cancel": Lazy("racksack.commands.sweep_act:cancel", "End it; what was computed stays.", _ACT),
}
ALIASES = {"list": "status", "ls": "status", "show": "status", "best": "top", "failed": "points", "follow": "wait"}


@click.group("sweep", cls=LazyGroup, table=TABLE, aliases=ALIASES, context_settings=_HELP)
def group() -> None:
    """Run one function or program over many combinations of parameters, ranked while it runs.

    A sweep is one job: `status`, `wait`, `cancel` and `fetch-results` work with its id.
    """


def _many(*names: str, **settings: Any) -> Any:  # noqa: ANN401 - click's decorators are untyped here
    return click.option(*names, multiple=True, **settings)


def space_options(function: F) -> F:
    """What is computed."""
    for option in (
        click.option("--population", metavar="N", type=int, help="Points of a generation, of cmaes and ga."),
        click.option("--seed", metavar="N", type=int, help="The same seed draws the same points. [0]"),
        click.option("--count", metavar="N", type=int, help="How many points a search draws."),
        click.option("--random", metavar="N", type=int, help="N random combinations, none twice."),
        click.option("--search", metavar="KIND", help="grid, random, lhs, sobol, tpe, cmaes, ga. [grid]"),
        click.option("--space", metavar="FILE", help="Parameters, where and search from a YAML or JSON file."),
        click.option("--jobs", metavar="FILE", help="A JSON list of jobs: job_id, script, args; or groups of them."),
        click.option(
            "--range", metavar="NAME=FIRST:END[:PART]", help="Numbers in parts: the function gets start, end."
        ),
        _many("--fixed", metavar="NAME=VALUE", help="An argument that every point gets."),
        _many("--where", metavar="EXPR", help='Only combinations for which this holds: "fast < slow".'),
        _many("-p", "--param", metavar="NAME=VALUES", help="20:80:2, a,b,c, log:1e-5:1e-1:9, or ... if EXPR."),
    ):
        function = option(function)
    return function


def judging_options(function: F) -> F:
    """What points are judged by, and what becomes of those that fail."""
    for option in (
        _many("--notify", metavar="NAME", help="Tell this of `notify:` in racksack.yaml when it ends."),
        _many("--control-env", metavar="NAME=VALUE", help="A variable that the control run gets."),
        _many("--control-arg", metavar="NAME=VALUE", help="An argument that the control run gets."),
        click.option("--control", metavar="K", help="The best K (or all) run again, on other data."),
        click.option("--max-fails", metavar="N|P%", help="End the sweep when more points fail for good."),
        click.option("--backoff", metavar="TIME", help="The wait before the first retry, then doubled. [2s]"),
        click.option("--retries", metavar="N", help="How often a failed point is tried again. [1]"),
        click.option(
            "--per-point-timeout", "--timeout", "point_timeout", metavar="TIME", help="The time limit of one point."
        ),
        _many("-m", "--metric", metavar="NAME[:max|:min]", help="What points are judged by; the first one ranks."),
    ):
        function = option(function)
    return function


def running_options(function: F) -> F:
    """Where and how it runs."""
    for option in (
        click.option("--submission-key", "submission", metavar="KEY", help="The same key twice is one sweep."),
        click.option("--no-wake", is_flag=True, help="Do not switch a node on for it."),
        click.option("--hold", is_flag=True, help="Wait until it is resumed."),
        _many("--ramdisk", metavar="PATH", help="This part of the project lies in RAM on the node."),
        click.option("--no-venv", is_flag=True, help="Make no venv."),
        click.option("--requirements", metavar="FILE", help="The requirements file, inside the project."),
        click.option("--python", metavar="VERSION", help="Python version of the venv."),
        _many("-C", "--constraint", "labels", metavar="LABEL", help="A label the node must have."),
        _many("-x", "--exclude-node", metavar="NODE", help="Not this node."),
        _many("-w", "--node", "nodes", metavar="NODE", help="Only this node."),
        click.option("--env-file", metavar="FILE", help="NAME=VALUE lines."),
        _many("-e", "--env", metavar="NAME=VALUE", help="An environment variable of the workers."),
        click.option("--priority", metavar="N", help="-1000 to 1000, higher goes first."),
        click.option("-J", "-n", "--name", "name", metavar="NAME", help="Name of the sweep."),
        click.option("--chunk-max", metavar="N", type=int, help="The largest chunk."),
        click.option("--chunk-min", metavar="N", type=int, help="The smallest chunk, but at the end."),
        click.option("--chunk-target", metavar="TIME", help="How long a chunk lasts at most. [300s]"),
        click.option("--chunk", metavar="auto|N", help="Points that a runner gets at once. [auto]"),
        click.option("--max-runners", "--max-parallel", "max_runners", metavar="N", help="Runners at once, at most."),
        click.option("--slots", "--per-node", "slots", metavar="N", help="Workers of a runner. [a GPU or CPU each]"),
        click.option("--disk", metavar="SIZE", help="Free disk space the node must have."),
        click.option("--vram", metavar="SIZE", help="The least memory of each GPU."),
        click.option("-G", "--gpus", metavar="[MODEL:]N", help="GPUs of a runner; each worker has one of them."),
        click.option("--ram", "--mem", "--memory", "ram", metavar="SIZE", help="Main memory of a runner. [1G]"),
        click.option("-c", "--cpus", "cpus", metavar="N", help="CPU cores of a runner, a worker for each. [1]"),
    ):
        function = option(function)
    return function


def own_options(function: F) -> F:
    """What this command does."""
    for option in (
        click.option("-q", "--quiet", is_flag=True, help="No receipt, no progress."),
        click.option("--dry-run", is_flag=True, help="Say what it would be; send nothing."),
        click.option("--detach", is_flag=True, help="Do not show progress."),
        click.option("--wait", is_flag=True, help="Show progress until it is over, also without a terminal."),
        click.option("--try", "trial", is_flag=True, help="Compute the first points, say how long all take, and ask."),
        click.option("-y", "--yes", is_flag=True, help="Do not ask before it starts."),
        _many("--include", metavar="PATTERN", help="Send this although a rule leaves it out."),
        _many("--exclude", metavar="PATTERN", help="Do not send this (a .gitignore pattern)."),
    ):
        function = option(function)
    return function


@click.command("run", cls=SubmitCommand, context_settings=_HELP)
@click.argument("project", metavar="DIR")
@click.argument("entrypoint", metavar="FILE.py:FUNCTION", required=False)
@space_options
@judging_options
@running_options
@own_options
@json_option
@controller_option
def run_command(controller: str | None, **options: Any) -> int:  # noqa: ANN401
    """Run a function, or any program, of the folder DIR over many combinations of parameters.

    \b
      racksack sweep run ./project backtest.py:evaluate --param stop_loss=20:80:2 \\
          --param take_profit=40:200:10 --metric sharpe:max --cpus 12
      racksack sweep run ./project train.py --param lr=0.1,0.01 -- --rate {lr}
      racksack sweep run sweep.yaml

    A function is called with the parameters and returns a dict of metrics. A program gets them as --name value, or
    where its words have {name}; its metrics are the last line of JSON that it prints, or metrics.json.
    """  # noqa: D301 - \b keeps click from joining the lines
    from racksack import sweep_run

    wish: SweepWish = sweep_run.wish_of(options, click.get_current_context().meta["racksack.arguments"])
    with open_client(controller) as client:
        return sweep_run.run(client, wish)
