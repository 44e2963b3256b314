"""What speaks against switching a node, for its page: sentences, before anybody asks for it. No I/O."""

from __future__ import annotations

from racksack_controller.core.power.operator import objection
from racksack_controller.core.power_records import OperatorRequest
from racksack_controller.core.state import State


def objections(state: State, name: str, now: float) -> dict[str, str]:
    """By what can be asked for (`on`, `off`, `cycle`): why it would be refused, nothing where it would not."""
    if name not in state.power:
        return {}
    asked = (OperatorRequest.ON, OperatorRequest.OFF, OperatorRequest.CYCLE)
    return {str(one): objection(state, name, one, now, force=False) or "" for one in asked}
