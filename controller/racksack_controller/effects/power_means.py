"""What the power drivers of a node need from outside: its shell, the hosts that packets are sent from, one IPMI helper.

A connection is opened for each command and closed again: they are rare, and the agent's own connection may be the very
thing that has broken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from racksack_controller.nodes.errors import NodeError
from racksack_controller.nodes.openssh import host_called
from racksack_controller.nodes.settings import LocalSettings, NodeSettings
from racksack_controller.nodes.ssh import SshTransport
from racksack_controller.power.build import Means
from racksack_controller.power.ipmi_helper import IpmiHelper

RUN_TIMEOUT_S = 60.0  # the drivers have shorter limits of their own


def means_of(name: str, nodes: Mapping[str, NodeSettings], ipmi: IpmiHelper) -> Means:
    """The means of one node; `nodes` are the ways to all of them, among which its jump hosts are found."""

    async def run(argv: Sequence[str]) -> tuple[int, str, str]:
        return await run_over_ssh(name, nodes[name], argv)

    async def run_on(host: str, argv: Sequence[str]) -> tuple[int, str, str]:
        settings = host_called(host, name, nodes)
        if settings is None:
            raise OSError(f"{host} is neither a node nor on the way to {name}")
        return await run_over_ssh(host, settings, argv)

    return Means(name, run, run_on, ipmi)


async def run_over_ssh(name: str, settings: NodeSettings, argv: Sequence[str]) -> tuple[int, str, str]:
    """Run a command on a host over a connection of its own: exit code, stdout, stderr. Raises OSError."""
    if isinstance(settings, LocalSettings):
        raise OSError(f"{name} is the controller's own machine, which it does not switch")
    transport = SshTransport(name, settings)
    try:
        await transport.connect()
        done = await transport.run(argv, RUN_TIMEOUT_S)
    except NodeError as error:
        raise OSError(str(error)) from error
    finally:
        await transport.close()
    return done.exit_code, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
