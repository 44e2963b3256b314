"""`racksack power on|off|cycle|hold|release|status`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from racksack.cli import Lazy, LazyGroup, complete, controller_option, for_each, json_option, open_client
from racksack.durations import duration_option
from racksack.errors import RacksackError
from racksack.text import clean, print_json

if TYPE_CHECKING:
    from racksack.client import Client
    from racksack.views import NodeView

WAIT_LOOK_S = 1.0
_SETTINGS = {"help_option_names": ["-h", "--help"]}

group = LazyGroup(
    "power",
    table={
        "status": Lazy("racksack.commands.nodes:command", "Show the nodes with their power."),
        "on": Lazy("racksack.commands.power:switch_on", "Power nodes on."),
        "off": Lazy("racksack.commands.power:switch_off", "Power nodes off."),
        "cycle": Lazy("racksack.commands.power:cycle", "Power-cycle nodes."),
        "hold": Lazy("racksack.commands.power:hold", "Hold nodes on or off, as they are."),
        "release": Lazy("racksack.commands.power:release", "Return nodes to automatic power control."),
    },
    help="Power nodes on and off, or hold them as they are.",
    context_settings=_SETTINGS,
)

_nodes = click.argument("nodes", metavar="NODE...", shell_complete=complete("node_names"), nargs=-1, required=True)
_wait = click.option("--wait", is_flag=True, help="Wait until it has succeeded or failed.")
_force = click.option("--force", is_flag=True, help="Even if jobs run there or on nodes behind it; they are requeued.")


@click.command("on", context_settings=_SETTINGS)
@_nodes
@_wait
@json_option
@controller_option
def switch_on(nodes: tuple[str, ...], wait: bool, as_json: bool, controller: str | None) -> int:
    """Power nodes on. They go off again when they were idle for long enough; `power hold` keeps them on."""
    with open_client(controller) as client:
        return for_each(nodes, lambda name: _switch(client, name, "on", False, wait, as_json))


@click.command("off", context_settings=_SETTINGS)
@_nodes
@_force
@_wait
@json_option
@controller_option
def switch_off(nodes: tuple[str, ...], force: bool, wait: bool, as_json: bool, controller: str | None) -> int:
    """Switch nodes off, and first those behind a jump host; a busy one is refused.

    The queue may have them switched on again, unless they are drained.
    """
    with open_client(controller) as client:
        return for_each(nodes, lambda name: _switch(client, name, "off", force, wait, as_json))


@click.command("cycle", context_settings=_SETTINGS)
@_nodes
@_force
@_wait
@json_option
@controller_option
def cycle(nodes: tuple[str, ...], force: bool, wait: bool, as_json: bool, controller: str | None) -> int:
    """Switch nodes off and on again, and first those behind a jump host; a busy one is refused."""
    with open_client(controller) as client:
        return for_each(nodes, lambda name: _switch(client, name, "cycle", force, wait, as_json))


@click.command("hold", context_settings=_SETTINGS)
@_nodes
@duration_option("--for", "for_s", help="For this long, such as 2h.")
@click.option("--reason", metavar="TEXT", help="The reason, shown to everyone.")
@json_option
@controller_option
def hold(nodes: tuple[str, ...], for_s: float | None, reason: str | None, as_json: bool, controller: str | None) -> int:
    """Keep nodes as they are: one that is on stays on, one that is off is not switched on."""
    with open_client(controller) as client:
        return for_each(nodes, lambda name: _hold(client, name, for_s, reason, as_json))


@click.command("release", context_settings=_SETTINGS)
@_nodes
@json_option
@controller_option
def release(nodes: tuple[str, ...], as_json: bool, controller: str | None) -> int:
    """Return nodes to automatic power control."""
    with open_client(controller) as client:
        return for_each(nodes, lambda name: _tell(client.power(name, "release"), "is not held", as_json))


def _switch(client: Client, name: str, act: str, force: bool, wait: bool, as_json: bool) -> None:
    before = client.node(name)
    node = client.power(name, act, force=force or None)
    if wait:
        node = _until(client, name, act, before)
        _tell(node, f"is {node.state}", as_json)
    else:
        _tell(node, _will_be(node, act), as_json)


def _will_be(node: NodeView, act: str) -> str:
    """What becomes of a node that was to be switched, as the end of a sentence."""
    power = node.power
    if power is None or not power.wish:
        return f"is {node.state} already"
    words = {"on": "on", "off": "off", "cycle": "off and on again"}[power.wish]
    if (power.wish, power.phase) in (("on", "booting"), ("off", "stopping")):
        return f"is {node.state}"
    others = power.on_behind if power.wish in ("off", "cycle") else []
    names = " and ".join(map(clean, others))
    after = f" when {names} {'is' if len(others) == 1 else 'are'} off, reached through it" if others else ""
    return f"is {node.state}, and will be switched {words}{after}"


def _until(client: Client, name: str, act: str, before: NodeView) -> NodeView:
    """The node once it is as wished. Raises RacksackError when that failed, or when another wish has come."""
    failures = before.power.failures if before.power else 0
    while True:
        node = client.node(name)
        power = node.power
        if power is None:
            raise RacksackError(f"{clean(name)} no longer has a power block")
        if power.failures > failures:
            raise RacksackError(f"{clean(name)} {clean(power.why)}")
        if not power.wish and power.phase not in ("booting", "stopping"):
            if _is_there(node, act, before):
                return node
            raise RacksackError(f"{clean(name)} is {power.phase.replace('_', ' ')} by now: {clean(power.why)}")
        if (act, power.wish) in (("off", "on"), ("on", "off"), ("cycle", "off")):
            raise RacksackError(f"{clean(name)} is to be {power.wish} by now: somebody else wants it so")
        time.sleep(WAIT_LOOK_S)


def _is_there(node: NodeView, act: str, before: NodeView) -> bool:
    """Whether a node is as it was wished, now that nothing is left to be done for the wish."""
    power, old = node.power, before.power
    if power is None or old is None:
        return False
    if act == "off":
        return power.phase in ("off", "set_aside")
    is_new = act == "on" or (power.phase, power.since_s) != (old.phase, old.since_s)
    return power.phase == "on" and is_new


def _hold(client: Client, name: str, for_s: float | None, reason: str | None, as_json: bool) -> None:
    from racksack_jobspecs.units import format_duration

    until = "" if for_s is None else f" for {format_duration(for_s)}"
    _tell(client.power(name, "hold", for_s=for_s, reason=reason), f"is held as it is{until}", as_json)


def _tell(node: NodeView, words: str, as_json: bool) -> None:
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(node))
    else:
        click.echo(f"{clean(node.name)} {clean(words.replace('_', ' '))}")
