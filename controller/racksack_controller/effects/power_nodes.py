"""Everything about power that runs beside the loop: ladders, looks at BMCs, and the meter; node by node."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping

from racksack_controller.config.config import NodeConfig
from racksack_controller.config.power_nodes import JumpNodes, jump_nodes, traits_of
from racksack_controller.core.power import events as ev
from racksack_controller.core.power_records import Phase
from racksack_controller.core.records import Node
from racksack_controller.core.state import Changes
from racksack_controller.effects.bmc_poll import Poller
from racksack_controller.effects.connector import Connector
from racksack_controller.effects.power import Powered, PowerEffects
from racksack_controller.effects.power_means import means_of
from racksack_controller.effects.proof import runs_on
from racksack_controller.energy.joules import Machine
from racksack_controller.energy.meter import Meter, Senses
from racksack_controller.loop import Loop
from racksack_controller.nodes.answering import Answers, answers
from racksack_controller.nodes.node import NodeStats
from racksack_controller.nodes.settings import NodeSettings, SshSettings
from racksack_controller.power.build import build_power
from racksack_controller.power.ipmi_helper import IpmiHelper
from racksack_controller.power.settings import PowerSettings
from racksack_controller.store import Store, StoreError

log = logging.getLogger("racksack.power")


class PowerNodes:
    """The power of all nodes that have a power block."""

    def __init__(self, loop: Loop, store: Store) -> None:
        self.effects = PowerEffects(loop)
        self.pollers: dict[str, Poller] = {}
        senses = Senses(
            self._is_on,
            self._sensor,
            self._stats,
            self._look,
            self._unchanged_since,
            self._is_proven_off,
            self._up_since,
        )
        self.meter = Meter(loop.state, store, senses)
        self._loop = loop
        self._ipmi = IpmiHelper()
        self._connectors: dict[str, Connector] = {}
        self._phases: dict[str, Phase] = {}  # as last seen
        self._polling: dict[str, asyncio.Task[None]] = {}
        self._metering: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Begin to meter. Raises StoreError."""
        await self.meter.load()
        self._loop.listen(self.effects.noticed)
        self._loop.listen(self._noticed)
        self._metering = asyncio.create_task(self.meter.run(), name="energy")

    async def add(self, name: str, nodes: Mapping[str, NodeConfig], connector: Connector) -> None:
        """A node of the configuration; one without a power block is always on, and said to be so."""
        wanted = nodes[name]
        self._connectors[name] = connector
        if wanted.power is None:
            await self._loop.submit(ev.PowerConfigured(name, None))
            return
        powered = self._powered(name, wanted.power, {other: config.reach for other, config in nodes.items()}, connector)
        # First: what was under way when the controller ended goes on as soon as the core knows the node's traits.
        self.effects.nodes[name] = powered
        await self._loop.submit(ev.PowerConfigured(name, traits_of(name, wanted.power, _jumps(nodes))))
        self.meter.machines[name] = self._machine(name, wanted)
        poller = self.pollers[name] = Poller(self._loop, name, powered, connector)
        self._polling[name] = asyncio.create_task(poller.run(), name=f"poll {name}")

    async def refresh(self, nodes: Mapping[str, NodeConfig]) -> None:
        """Tell the core what other nodes' settings have changed for a node: who is reached through whom."""
        jumps = _jumps(nodes)
        for name, wanted in nodes.items():
            if wanted.power is not None:
                traits = traits_of(name, wanted.power, jumps)
                if self._loop.state.power_traits.get(name) != traits:
                    await self._loop.submit(ev.PowerConfigured(name, traits))

    def _powered(
        self, name: str, settings: PowerSettings, reach: Mapping[str, NodeSettings], connector: Connector
    ) -> Powered:
        means = means_of(name, reach, self._ipmi)

        async def logins() -> int | None:
            stats = await connector.look()
            return stats.logins if stats else None

        return Powered(
            drivers=build_power(settings, means),
            settings=settings,
            answers=answers_of(reach[name]),
            expect=connector.retry_now,
            let_go=connector.let_go,
            logins=logins,
            runs_on=lambda boot_id: runs_on(means.run, boot_id),
        )

    def _machine(self, name: str, wanted: NodeConfig) -> Machine:
        inventory = self._loop.state.nodes[name].inventory
        watts = wanted.power.watts if wanted.power else None
        return Machine(
            cpus=float(wanted.cpus or (inventory.cpus if inventory else 8)),
            gpus=len(wanted.gpus if wanted.gpus is not None else (inventory.gpus if inventory else ())),
            idle_watts=watts.idle if watts else None,
            max_watts=watts.max if watts else None,
        )

    async def forget(self, name: str) -> None:
        """A node leaves the configuration, or its settings change."""
        polling = self._polling.pop(name, None)
        if polling is not None:
            polling.cancel()
            await asyncio.gather(polling, return_exceptions=True)
        await self.effects.forget(name)
        self.pollers.pop(name, None)
        self._phases.pop(name, None)
        self._connectors.pop(name, None)
        self.meter.machines.pop(name, None)

    async def close(self) -> None:
        """End all that is under way, and save what was metered."""
        if self._metering is not None:
            self._metering.cancel()
            await asyncio.gather(self._metering, return_exceptions=True)
        for name in list(self._polling):
            await self.forget(name)
        await self._ipmi.close()
        try:
            await self.meter.flush()
        except StoreError as error:
            log.error("the last half minute of energy readings is lost: %s", error)

    def _noticed(self, changes: Changes) -> None:
        for node in changes.nodes:
            machine, inventory = self.meter.machines.get(node.name), node.inventory
            if machine is not None and inventory is not None:
                self._look_if_lost(node)
                sized = Machine(float(inventory.cpus), len(inventory.gpus), machine.idle_watts, machine.max_watts)
                self.meter.machines[node.name] = sized
        self.meter.noticed(changes)
        for power in changes.power:
            poller = self.pollers.get(power.node)
            if poller is not None and self._phases.get(power.node) is not power.phase:
                self._phases[power.node] = power.phase
                poller.look_soon()
                if power.phase is Phase.ON:
                    self._call_those_behind(power.node)

    def _call_those_behind(self, name: str) -> None:
        """The way to them is on: they may answer, and if they are on they must not stay so unnoticed."""
        traits = self._loop.state.power_traits.get(name)
        for other in traits.behind if traits is not None else ():
            if other in self._connectors:
                self._connectors[other].retry_now()

    def _look_if_lost(self, node: Node) -> None:
        """A node that was on and does not answer any more may have lost its power: its BMC is asked at once."""
        record, poller = self._loop.state.power.get(node.name), self.pollers.get(node.name)
        if record is not None and poller is not None and record.phase is Phase.ON and not node.connected:
            poller.look_soon()

    def _is_on(self, name: str) -> bool:
        """Whether a node has power, as far as is known."""
        record = self._loop.state.power.get(name)
        if record is None or record.phase in (Phase.ON, Phase.BOOTING, Phase.STOPPING):
            return True
        return record.phase is not Phase.OFF and record.seen_on is True

    def _is_proven_off(self, name: str) -> bool:
        """Whether a device says that a node is off; the silence of one without a device proves nothing."""
        record, poller = self._loop.state.power.get(name), self.pollers.get(name)
        return (record is not None and record.seen_on is False) or (poller is not None and poller.said_on is False)

    def _up_since(self, name: str) -> float | None:
        record = self._loop.state.power.get(name)
        return record.up_since_s if record is not None and self._loop.state.nodes[name].connected else None

    def _unchanged_since(self, name: str) -> float | None:
        """Since when (Unix seconds) a node is off, or on in one boot; None as long as nobody has confirmed it."""
        record, poller = self._loop.state.power.get(name), self.pollers.get(name)
        node = self._loop.state.nodes[name]
        if record is None or record.phase is Phase.UNKNOWN:
            return None
        # One that has been idle for long goes down in the very step in which it answers.
        if record.phase is Phase.STOPPING and node.connected and node.connection_since_s <= record.since_s:
            return record.on_since_s
        if record.phase is Phase.ON:
            return record.on_since_s if node.connected else None
        if record.phase is not Phase.OFF:
            return math.inf  # it is just being switched, or failed to be
        called_in_vain = not node.connected and node.connection_since_s > 0.0
        is_confirmed = called_in_vain or (poller is not None and poller.said_on is False)
        return record.since_s if is_confirmed else None

    def _sensor(self, name: str) -> float | None:
        poller = self.pollers.get(name)
        return poller.watts if poller else None

    async def _look(self, name: str) -> None:
        connector = self._connectors.get(name)
        if connector is not None:
            await connector.look()

    def _stats(self, name: str) -> tuple[NodeStats, float] | None:
        connector = self._connectors.get(name)
        if connector is None or connector.stats is None:
            return None
        return connector.stats, connector.stats_at_s


def _jumps(nodes: Mapping[str, NodeConfig]) -> JumpNodes:
    return jump_nodes({name: (config.reach, config.power) for name, config in nodes.items()})


def answers_of(reach: NodeSettings) -> Answers:
    """How to tell whether a node answers; the controller's own machine always does."""

    async def look() -> bool | None:
        return await answers(reach) if isinstance(reach, SshSettings) else True

    return look
