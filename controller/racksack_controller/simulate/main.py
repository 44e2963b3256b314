"""`racksack simulate`: what a policy, or another rack, would have made of a workload."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from racksack_controller.config.config import ConfigError, load_config
from racksack_controller.simulate import invariants
from racksack_controller.simulate.engine import Faults, Outcome, Replay
from racksack_controller.simulate.fleet import Fleet, size_of
from racksack_controller.simulate.machines import Layout
from racksack_controller.simulate.metrics import Metrics, measure
from racksack_controller.simulate.picture import draw
from racksack_controller.simulate.power import PowerUse
from racksack_controller.simulate.report import charts, table
from racksack_controller.simulate.scenario import AS_IT_WAS, CONFIGURED, POLICIES, Scenario, Wishes, scenario
from racksack_controller.simulate.workload import WorkloadError
from racksack_jobspecs.states import ExitCode
from racksack_jobspecs.units import parse_duration

LAYOUTS = [one.value for one in Layout]
LAYOUT_HELP = "How a job's processors lie: on one node, anywhere (pool), or one on each of several nodes (gang)."
POLICY_HELP = f"Some of {', '.join(POLICIES)}, and {CONFIGURED} with --config."
ADD_HELP = "Also with one more node: 32x128G, or like:r1. May be repeated."


@click.command(name="simulate", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("trace", type=click.Path(path_type=Path), required=False)
@click.option("--config", "config", type=click.Path(path_type=Path), help="The nodes and settings of a racksack.yaml.")
@click.option("--from-history", is_flag=True, help="Replay what ran on that configuration's nodes.")
@click.option("--since", default="30d", show_default=True, help="With --from-history: how far back.")
@click.option("--add-node", "added", metavar="NODE", multiple=True, help=ADD_HELP)
@click.option("--without", metavar="NODE", multiple=True, help="Also without this node. May be repeated.")
@click.option("--idle-off", metavar="TIME", help="Also with nodes switched off when idle for so long, such as 30m.")
@click.option("--boot", default="2m", show_default=True, help="How long a boot takes, where nodes are switched.")
@click.option("--nodes", default="16x8", show_default=True, help="Without --config: nodes x processors.")
@click.option("--layout", type=click.Choice(LAYOUTS), default=LAYOUTS[0], show_default=True, help=LAYOUT_HELP)
@click.option("--policy", "policies", metavar="NAMES", help=f"{POLICY_HELP}  [default: default,easy]")
@click.option("--jobs", "limit", type=click.IntRange(min=1), help="Only so many jobs.")
@click.option("--faults", "fault_hours", type=float, default=0.0, help="Mean hours between power losses of a node.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the faults.")
@click.option("--check", is_flag=True, help="Check every invariant at every moment (slow).")
@click.option("--picture", type=click.Path(path_type=Path), help="Write use and waits as SVG.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(
    trace: Path | None,
    config: Path | None,
    from_history: bool,
    since: str,
    added: tuple[str, ...],
    without: tuple[str, ...],
    idle_off: str | None,
    boot: str,
    nodes: str,
    layout: str,
    policies: str | None,
    limit: int | None,
    fault_hours: float,
    seed: int,
    check: bool,
    picture: Path | None,
    as_json: bool,
) -> int:
    """Replay TRACE (.swf or a Batsim job table, plain or gzipped), or your own history, with the scheduler that runs
    your rack: under several policies, or on other racks.
    """
    try:
        wishes = Wishes(
            trace=trace,
            config=None if config is None else load_config(config),
            machines=nodes,
            layout=Layout(layout),
            policies=tuple(policies.split(",")) if policies else (),
            from_history=from_history,
            since_s=parse_duration(since),
            added=added,
            without=without,
            jobs_max=limit,
            idle_off_s=None if idle_off is None else parse_duration(idle_off),
            boot_s=parse_duration(boot),
            seed=seed,
        )
        found = scenario(wishes)
    except (WorkloadError, ConfigError, OSError, ValueError) as error:
        reason = f"{trace}: {error.strerror}" if isinstance(error, OSError) else str(error)
        click.echo(f"racksack simulate: {reason}", err=True)
        raise SystemExit(ExitCode.USAGE) from error
    results, used = _play(found, Faults(mean_between_s=fault_hours * 3600.0, seed=seed), check=check)
    _tell(found, results, used, as_json=as_json)
    if picture is not None:
        picture.write_text(draw(charts(results)), encoding="utf-8")
    return ExitCode.OK


def _play(
    found: Scenario, faults: Faults, *, check: bool
) -> tuple[dict[str, list[Outcome]], dict[str, PowerUse | None]]:
    """What becomes of the workload, variant by variant, and the power used; what really was stands first."""
    used: dict[str, PowerUse | None] = {}
    results: dict[str, list[Outcome]] = {} if found.real is None else {AS_IT_WAS: found.real}
    for variant in found.variants:
        if isinstance(variant.machines, Fleet):
            click.echo(f"{variant.name}: {size_of(variant.machines)}", err=True)
        watch = (lambda state, _now: invariants.check(state)) if check else None
        replay = Replay(found.tasks, variant.machines, variant.policy, faults=faults, power=variant.power, watch=watch)
        results[variant.name] = replay.run()
        used[variant.name] = replay.power_use()
        if replay.left_out:
            click.echo(f"{variant.name}: {replay.left_out} jobs were skipped: they fit on no node.", err=True)
        if not results[variant.name]:
            raise click.ClickException("no job is left to replay")
    return results, used


def _tell(
    found: Scenario, results: dict[str, list[Outcome]], used: dict[str, PowerUse | None], *, as_json: bool
) -> None:
    machines = {variant.name: variant.machines for variant in found.variants}
    machines.setdefault(AS_IT_WAS, found.variants[0].machines)
    measured: dict[str, Metrics] = {
        name: measure(outcomes, machines[name], used.get(name)) for name, outcomes in results.items()
    }
    if as_json:
        click.echo(json.dumps({name: msgspec.to_builtins(one) for name, one in measured.items()}, indent=1))
        return
    lines: Sequence[str] = table(measured)
    click.echo("\n".join(lines))
