"""A node that is taken out of the configuration, and put back."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from racksack_controller.core import events as ev
from racksack_controller.core.apply import apply
from racksack_controller.core.rack.amounts import could_ever_hold
from racksack_controller.core.records import Drain
from racksack_controller.core.state import State
from racksack_controller.core.why import never
from tests.core.builders import job, node


def state_with(drain: Drain | None) -> State:
    state = State()
    state.put_node(node("n1", drain=drain))
    state.put_node(node("n2"))
    return state


@pytest.mark.parametrize("drain", [None, Drain("new disk", 1.0)])
def test_a_node_that_is_put_back_is_as_it_was(drain: Drain | None) -> None:
    state = state_with(drain)
    apply(state, ev.NodeRemoved("n1"), 2.0)
    apply(state, ev.NodeRemoved("n1"), 3.0)  # said again, as at a start
    assert not state.nodes["n1"].usable
    assert state.nodes["n1"].is_removed
    apply(state, ev.NodeConfigured(node("n1", connected=False)), 4.0)
    assert state.nodes["n1"].drain == drain
    assert not state.nodes["n1"].is_removed


def test_what_an_older_version_drained_comes_back_too() -> None:
    state = state_with(Drain("n1 was removed from the configuration", 1.0))
    apply(state, ev.NodeConfigured(node("n1", connected=False)), 2.0)
    assert state.nodes["n1"].drain is None


def test_nothing_fits_on_a_node_that_is_gone() -> None:
    state = state_with(None)
    only = job(1, nodes=("n1",))
    assert never(only, state.nodes.values()) is None
    apply(state, ev.NodeRemoved("n1"), 2.0)
    assert not could_ever_hold(only, state.nodes["n1"])
    assert never(only, state.nodes.values())
    assert never(replace(only, spec=replace(only.spec, nodes=())), state.nodes.values()) is None
