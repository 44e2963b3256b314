"""`racksack sweep`: one function or program over many combinations of parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from racksack.cli import Lazy, LazyGroup, controller_option, json_option, open_client
from racksack.commands import shared

if TYPE_CHECKING:
    from racksack.sweep_client.run import SweepWish

_HELP = {"help_option_names": ["-h", "--help"]}
_SPACE, _LOOK, _ACT = "Begin", "Look", "Act"

TABLE = {
    "run": Lazy("racksack.commands.sweep:run_command", "Run DIR FILE.py:FUNCTION over a space of parameters.", _SPACE),
    "status": Lazy("racksack.commands.sweep_look:status", "Show all sweeps, or one in detail.", _LOOK),
    "top": Lazy("racksack.commands.sweep_look:top", "Show the best points, by a metric or an expression.", _LOOK),
    "points": Lazy("racksack.commands.sweep_look:points", "Show points that failed, or one point.", _LOOK),
    "export": Lazy("racksack.commands.sweep_look:export", "Write all results to a file: CSV, JSON or Parquet.", _LOOK),
    "importance": Lazy("racksack.commands.sweep_look:importance", "Show which parameters matter.", _LOOK),
    "report": Lazy("racksack.commands.sweep_look:report", "Write a self-contained HTML report.", _LOOK),
    "compare": Lazy("racksack.commands.sweep_look:compare", "Compare the best points of two sweeps.", _LOOK),
    "wait": Lazy("racksack.commands.sweep_act:wait", "Show a sweep's progress until it ends.", _LOOK),
    "stop": Lazy("racksack.commands.sweep_act:stop", "Pause a sweep.", _ACT),
    "resume": Lazy("racksack.commands.sweep_act:resume", "Continue with the missing points.", _ACT),
    "retry": Lazy("racksack.commands.sweep_act:retry", "Run the failed points again.", _ACT),
    "cancel": Lazy("racksack.commands.sweep_act:cancel", "Stop a sweep; keep what was computed.", _ACT),
}
ALIASES = {"list": "status", "ls": "status", "show": "status", "best": "top", "failed": "points", "follow": "wait"}


@click.group("sweep", cls=LazyGroup, table=TABLE, aliases=ALIASES, context_settings=_HELP)
def group() -> None:
    """Run one function or program over many combinations of parameters, ranked while it runs.

    A sweep is one job: `status`, `wait`, `cancel` and `fetch-results` work with its id.
    """


space_options = shared.together(  # what is computed
    shared.many("-p", "--param", metavar="NAME=VALUES", help="20:80:2, a,b,c, log:1e-5:1e-1:9, or ... if EXPR."),
    shared.many("--where", metavar="EXPR", help='Only combinations for which this holds: "fast < slow".'),
    shared.many("--fixed", metavar="NAME=VALUE", help="An argument passed to every point."),
    click.option(
        "--range", metavar="NAME=FIRST:END[:PART]", help="A range of numbers in parts; the function gets start, end."
    ),
    click.option("--jobs", metavar="FILE", help="A JSON list of jobs: job_id, script, args; or groups of them."),
    click.option("--space", metavar="FILE", help="Parameters, where and search from a YAML or JSON file."),
    click.option("--search", metavar="KIND", help="grid, random, lhs, sobol, tpe, cmaes, ga. [grid]"),
    click.option("--grid", is_flag=True, help="All combinations: --search grid, which is the default."),
    click.option("--random", metavar="N", type=int, help="N random combinations without repeats."),
    click.option("--count", metavar="N", type=int, help="How many points a search draws."),
    click.option("--seed", metavar="N", type=int, help="The same seed draws the same points. [0]"),
    click.option("--population", metavar="N", type=int, help="Points per generation (cmaes, ga)."),
    click.option("--warm-start", metavar="ID|auto", help="Begin with what an earlier sweep found (tpe, cmaes, ga)."),
)

judging_options = shared.together(  # what points are judged by, and what becomes of those that fail
    shared.many("-m", "--metric", metavar="NAME[:max|:min]", help="A metric to judge points by; the first one ranks."),
    click.option(
        "--per-point-timeout", "--timeout", "point_timeout", metavar="TIME", help="The time limit of one point."
    ),
    click.option("--retries", metavar="N", help="How often a failed point is retried. [1]"),
    click.option("--backoff", metavar="TIME", help="The wait before the first retry, then doubled. [2s]"),
    click.option("--max-fails", metavar="N|P%", help="Stop the sweep when more points than this fail."),
    shared.many("--require", metavar="EXPR", help='Rank only points for which this holds: "trades >= 30".'),
    click.option("--folds", metavar="FOLDS", help="kfold:5, or walk-forward:from=...,to=...,train=2y,test=3mo."),
    click.option("--repeat", metavar="N", help="Compute each combination N times; the function gets seed."),
    click.option("--aggregate", metavar="HOW", help="Rank combinations by mean, median or worst. [mean]"),
    click.option("--stop", metavar="RULE", help="Stop hopeless points early: asha, hyperband, median, none. [none]"),
    click.option("--grace-steps", metavar="N", help="The step of the first rung. [1]"),
    click.option("--reduction", metavar="N", help="One in N points continues at each rung. [3]"),
    click.option("--rungs", metavar="N", help="The number of rungs at most. [8]"),
    click.option("--control", metavar="K", help="Run the best K (or all) again on other data."),
    shared.many("--control-arg", metavar="NAME=VALUE", help="An argument of the control run."),
    shared.many("--control-env", metavar="NAME=VALUE", help="An environment variable of the control run."),
    shared.many("--notify", metavar="NAME", help="Notify this entry of `notify:` in racksack.yaml at the end."),
)

running_options = shared.together(  # where and how it runs
    click.option("-c", "--cpus", "cpus", metavar="N", help="CPU cores per runner, one worker each. [1]"),
    click.option("--ram", "--mem", "--memory", "ram", metavar="SIZE", help="Main memory per runner. [1G]"),
    click.option("-G", "--gpus", metavar="[MODEL:]N", help="GPUs per runner; each worker gets one."),
    shared.VRAM,
    shared.DISK,
    click.option(
        "--slots",
        "--per-node",
        "slots",
        multiple=True,
        metavar="[NODE=]N",
        help="Workers per runner. [one per GPU or CPU]",
    ),
    click.option(
        "--max-runners", "--max-parallel", "max_runners", metavar="N", help="At most this many runners at once."
    ),
    click.option("--chunk", metavar="auto|N", help="Points per chunk. [auto]"),
    click.option("--chunk-target", metavar="TIME", help="How long a chunk lasts at most. [300s]"),
    click.option("--chunk-min", metavar="N", type=int, help="The smallest chunk, except at the end."),
    click.option("--chunk-max", metavar="N", type=int, help="The largest chunk."),
    click.option("-J", "-n", "--name", "name", metavar="NAME", help="Name of the sweep."),
    shared.PRIORITY,
    shared.AFTER,
    shared.many("-e", "--env", metavar="NAME=VALUE", help="An environment variable of the workers."),
    shared.ENV_FILE,
    shared.many("-w", "--node", "nodes", metavar="NODE", help="Only this node."),
    shared.EXCLUDE_NODE,
    shared.many("-C", "--constraint", "labels", metavar="LABEL", help="A label the node must have."),
    shared.PYTHON,
    shared.REQUIREMENTS,
    shared.NO_VENV,
    shared.many("--ramdisk", metavar="PATH", help="Copy this part of the project to RAM on the node."),
    click.option("--hold", is_flag=True, help="Hold it until `racksack sweep resume`."),
    shared.NO_WAKE,
    click.option(
        "--submission-key", "submission", metavar="KEY", help="Submit with the same key twice, get one sweep."
    ),
)

own_options = shared.together(  # what this command does
    shared.DATA,
    shared.EXCLUDE,
    shared.INCLUDE,
    click.option("-y", "--yes", is_flag=True, help="Start without asking."),
    click.option("--try", "trial", is_flag=True, help="Compute the first points, estimate the total time, and ask."),
    click.option("--wait", is_flag=True, help="Show progress until the end, even without a terminal."),
    click.option("--detach", is_flag=True, help="Do not show progress."),
    click.option("--dry-run", is_flag=True, help="Show what would be submitted; send nothing."),
    shared.QUIET,
)


@click.command("run", cls=shared.SubmitCommand, context_settings=_HELP)
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
    from racksack.sweep_client import run

    wish: SweepWish = run.wish_of(options, click.get_current_context().meta["racksack.arguments"])
    with open_client(controller) as client:
        return run.run(client, wish)
