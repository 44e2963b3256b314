"""What the nodes have, against what the store says: asked while no controller runs, which would do this by itself."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence

import msgspec

from racksack_controller.config.config import Config, NodeConfig
from racksack_controller.core.records import Attempt
from racksack_controller.nodes import make_node
from racksack_controller.nodes.errors import NodeError
from racksack_controller.nodes.node import AttemptReport
from racksack_controller.nodes.settings import at_home_of
from racksack_controller.recovery.faults import Fault
from racksack_jobspecs.bounds import UNDECODABLE

TIMEOUT_S = 30.0
_decode_attempt = msgspec.json.Decoder(Attempt).decode


async def compare(config: Config, spool_id: str, connection: sqlite3.Connection) -> list[Fault]:
    """What every node that answers has and should not have, or the other way round. Changes nothing there."""
    live = _live(connection)
    found = await asyncio.gather(
        *(_compare(node, spool_id, [one for one in live if one.node == name]) for name, node in config.nodes.items())
    )
    return [fault for faults in found for fault in faults]


def _live(connection: sqlite3.Connection) -> list[Attempt]:
    attempts = []
    for (record,) in connection.execute("SELECT record FROM attempts WHERE live = 1").fetchall():
        try:
            attempts.append(_decode_attempt(record))
        except UNDECODABLE:
            continue  # a finding of its own
    return attempts


async def _compare(config: NodeConfig, spool_id: str, attempts: Sequence[Attempt]) -> list[Fault]:
    node = make_node(config.name, at_home_of(config.reach, spool_id))
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await node.connect()
            reports = await node.reports()
    except (NodeError, TimeoutError) as error:
        said = str(error) or f"it did not answer within {TIMEOUT_S:.0f} s"
        return [Fault(what="node", sentence=f"{config.name} was not compared: {said}", is_harmless=True)]
    finally:
        await node.close()
    return differences(config.name, attempts, reports)


def differences(name: str, attempts: Sequence[Attempt], reports: Sequence[AttemptReport]) -> list[Fault]:
    """The findings of one node. The controller's next start sets all of them right by itself."""
    known = {one.key: one for one in attempts}
    there = {one.attempt: one for one in reports}
    faults = []
    for key, report in sorted(there.items()):
        mine = known.get(key)
        if mine is None or (report.epoch or mine.epoch) != mine.epoch:
            sentence = (
                f"{name} has attempt {key} ({report.state}), which the store does not know; the controller ends and "
                "removes it when it connects"
            )
            faults.append(Fault(what="node", sentence=sentence, is_harmless=True))
    for key, one in sorted(known.items()):
        if one.launched and one.ending is None and key not in there:
            sentence = (
                f"attempt {key} runs on {name} by the store, and {name} has nothing of it; its job runs again once the "
                "controller connects"
            )
            faults.append(Fault(what="node", sentence=sentence, is_harmless=True))
    return faults
