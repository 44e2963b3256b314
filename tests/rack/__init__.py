"""Several real servers on one machine, for tests, demos and benchmarks.

    from tests.rack import Rack
    with Rack.build() as rack:          # a laptop, a controller and three nodes, all off
        rack.up()
        rack["laptop"].exec(["ssh", "r2", "hostname"])
        rack["r2"].power_cut()

Needs root, Linux, and the programs that `probe.py` names.
"""

from tests.rack.assembly import Rack, remove_dead
from tests.rack.layout import RackSpec, ServerSpec, usual_servers
from tests.rack.probe import missing
from tests.rack.server import CommandFailed, Faults, Server
from tests.rack.state import PowerEvent

__all__ = [
    "CommandFailed",
    "Faults",
    "PowerEvent",
    "Rack",
    "RackSpec",
    "Server",
    "ServerSpec",
    "missing",
    "remove_dead",
    "usual_servers",
]
