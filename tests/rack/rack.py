#!/usr/bin/env python3
"""Test racks from the command line, for demos, benchmarks, BMC stand-ins and a look inside.

    rack.py up [--nodes N] [--boot-delay S] [--off]   build a rack that stays; prints its number
    rack.py down [NUMBER ...] [--all]                 take racks apart; those of dead owners always
    rack.py on|off|soft NAME [--reason WORD]          switch a server (off is a power cut, soft asks it to shut down)
    rack.py status|is-on NAME                         print on or off; is-on says it by its exit code, 0 or 1
    rack.py status                                    every server of every rack
    rack.py exec NAME [--user USER] -- COMMAND ...    run a command on a server

NAME is a server of the rack given by --rack or RACKSACK_RACK; neither is needed while there is only one rack.
Exit codes: 0 done (also when it was so already), 1 it did not work, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.rack import state
from tests.rack.assembly import Rack, remove, remove_dead
from tests.rack.layout import RackSpec, ServerSpec, usual_servers
from tests.rack.probe import missing
from tests.rack.server import Server


def main() -> int:
    """Read the command line and do it."""
    options = _parser().parse_args()
    try:
        return int(options.run(options))
    except (LookupError, RuntimeError, TimeoutError) as error:
        print(f"rack.py: {error.args[0] if error.args else error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="build a rack that stays")
    up.add_argument("--nodes", type=int, default=3, help="how many nodes; r2 is reached through r1")
    up.add_argument("--boot-delay", type=float, default=0.0, metavar="SECONDS", help="for every node")
    up.add_argument("--off", action="store_true", help="leave the nodes off")
    up.set_defaults(run=_up)
    down = commands.add_parser("down", help="take racks apart")
    down.add_argument("numbers", type=int, nargs="*")
    down.add_argument("--all", action="store_true", help="every rack on this machine")
    down.set_defaults(run=_down)
    for verb, run in (("on", _on), ("off", _off), ("soft", _soft), ("status", _status), ("is-on", _is_on)):
        switch = commands.add_parser(verb)
        switch.add_argument("name", nargs="?" if verb == "status" else None)
        switch.add_argument("--rack", type=int)
        switch.add_argument("--reason", default="", help="for the record of events")
        switch.set_defaults(run=run)
    execute = commands.add_parser("exec", help="run a command on a server")
    execute.add_argument("name")
    execute.add_argument("--rack", type=int)
    execute.add_argument("--user")
    execute.add_argument("argv", nargs="+")
    execute.set_defaults(run=_exec)
    return parser


def _up(options: argparse.Namespace) -> int:
    if reason := missing():
        raise RuntimeError(reason)
    laptop, controller, *nodes = usual_servers()
    nodes += [ServerSpec(f"r{index}", bmc=True) for index in range(len(nodes) + 1, options.nodes + 1)]
    slow = [
        ServerSpec(node.name, subnets=node.subnets, bmc=True, boot_delay_s=options.boot_delay)
        for node in nodes[: options.nodes]
    ]
    rack = Rack.build(RackSpec((laptop, controller, *slow)), stays=True)
    rack.up("laptop", "controller")
    if not options.off and slow:
        rack.up(*(node.name for node in slow))
    print(rack.number)
    return 0


def _down(options: argparse.Namespace) -> int:
    for number in state.numbers() if options.all else options.numbers:
        remove(number)
    remove_dead()
    return 0


def _server(options: argparse.Namespace) -> Server:
    chosen = options.rack or os.environ.get("RACKSACK_RACK")
    numbers = state.numbers()
    if chosen is None and len(numbers) != 1:
        raise LookupError(f"say which rack with --rack or RACKSACK_RACK: there are {numbers or 'none'}")
    rack = Rack.load(int(chosen or numbers[0]))
    rack.spec.index(options.name)
    return rack[options.name]


def _on(options: argparse.Namespace) -> int:
    server = _server(options)
    server.power_on(options.reason)
    return 0 if server.running else 1


def _off(options: argparse.Namespace) -> int:
    _server(options).power_cut(options.reason)
    return 0


def _soft(options: argparse.Namespace) -> int:
    server = _server(options)
    return 0 if server.press_power_button(options.reason) or not server.running else 1


def _is_on(options: argparse.Namespace) -> int:
    return 0 if _server(options).running else 1


def _status(options: argparse.Namespace) -> int:
    if options.name:
        print("on" if _server(options).running else "off")
        return 0
    for number in state.numbers():
        try:
            rack = Rack.load(number)
        except LookupError:
            # It is just being built, or taken apart.
            continue
        for server in rack.servers.values():
            print(f"{number:>3}  {server.name:<12} {'on' if server.running else 'off':<4} {server.address}")
    return 0


def _exec(options: argparse.Namespace) -> int:
    return int(_server(options).popen(options.argv, user=options.user, cwd="/").wait())


if __name__ == "__main__":
    sys.exit(main())
