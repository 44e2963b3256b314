"""Gangs as events: all or nothing from placement to return folder, whatever happens to one rank."""

from __future__ import annotations

from racksack_controller.core import events as ev
from racksack_controller.core.actions import Action, Assemble, AttemptAction, Collect, Go, Remove, Start, StopAttempt
from racksack_controller.core.apply import lose_unreachable
from racksack_controller.core.decide import decide
from racksack_controller.core.state import State
from racksack_controller.core.why import why_job
from racksack_controller.simulate import invariants
from racksack_jobspecs.states import JobState
from tests.core.builders import Bench, job, node, report, request

KEYS = ("1.1", "1.1@1", "1.1@2")
NODES = ("a", "b", "c")


def asked(bench: Bench) -> list[Action]:
    invariants.check(bench.state)
    return decide(bench.state, bench.now)


def of_kind(actions: list[Action], kind: type[Action]) -> list[str]:
    """For which attempts these are; nothing else may be asked."""
    assert all(isinstance(action, kind) for action in actions), actions
    return sorted(action.attempt for action in actions if isinstance(action, AttemptAction))


def gang(*states: str) -> Bench:
    """A job on three nodes; each rank was launched and reported as told ("": only placed)."""
    bench = Bench(*(node(name, address=f"10.0.0.{at}") for at, name in enumerate(NODES)))
    bench.submit(job(1, request(8), gang=3))
    bench.place()
    assert of_kind(asked(bench), Start) == list(KEYS)
    for name, key, state in zip(NODES, KEYS, states, strict=False):
        if state:
            bench.happen(ev.Launched(key))
            ends = {"outcome": "done"} if state == "ended" else {}
            bench.happen(ev.Reported(name, report(key, state, **ends)))
    return bench


def ended(bench: Bench, rank: int, outcome: str, **more: object) -> None:
    bench.happen(ev.Reported(NODES[rank], report(KEYS[rank], "ended", outcome=outcome, **more)))


def outcome_of(bench: Bench) -> tuple[JobState, str]:
    return bench.state.jobs[1].state, bench.state.jobs[1].reason


def collect_all(bench: Bench, *ranks: int) -> None:
    """Every folder arrives and is put in place."""
    assert of_kind(asked(bench), Collect) == [KEYS[rank] for rank in ranks]
    for rank in ranks:
        bench.happen(ev.Collected(KEYS[rank]))
    [action] = asked(bench)
    assert isinstance(action, Assemble)
    assert asked(bench) == [action]
    bench.happen(ev.Assembled(action.attempt))


def test_no_rank_starts_before_all_are_prepared() -> None:
    bench = gang("prepared", "preparing", "prepared")
    assert asked(bench) == []
    assert bench.state.jobs[1].state is JobState.PREPARING
    assert why_job(bench.reading(), bench.state.jobs[1]) == "2 of 3 ranks are prepared; rank 1 on b is not"
    bench.happen(ev.Reported("b", report("1.1@1", "prepared")))
    assert of_kind(asked(bench), Go) == list(KEYS)
    bench.happen(ev.GoSent("a", "1.1"), ev.Reported("a", report("1.1")))
    assert of_kind(asked(bench), Go) == ["1.1@1", "1.1@2"]
    bench.happen(ev.Reported("a", report("1.1", "prepared")))  # old news
    assert bench.state.jobs[1].state is JobState.PREPARING


def test_a_go_that_was_cut_short_is_given_again_after_a_restart() -> None:
    """Rank 0 has even ended before the others were told."""
    bench = gang("prepared", "prepared", "prepared")
    bench.happen(ev.GoSent("a", "1.1"))
    fresh = State()
    fresh.load(bench.state.jobs.values(), bench.state.attempts.values(), bench.state.nodes.values())
    bench.state = fresh
    told = (report("1.1", "ended", started_at_s=5.0), report("1.1@1", "prepared"), report("1.1@2", "prepared"))
    for name, one in zip(NODES, told, strict=True):
        bench.happen(ev.NodeConnected(name, "b1", bench.state.nodes[name].inventory, (one,)))
    assert [action.key for action in asked(bench)] == ["Go:1.1@1@b", "Go:1.1@2@c", "Collect:1.1@a"]


def test_done_when_all_are_and_nothing_is_removed_before() -> None:
    bench = gang("running", "running", "running")
    assert bench.state.jobs[1].state is JobState.RUNNING
    ended(bench, 1, "done")
    assert bench.state.jobs[1].state is JobState.RUNNING
    assert bench.state.rack.held[:, bench.state.rack.row["b"]].sum() == 0, "what ended holds nothing"
    assert of_kind(asked(bench), Collect) == ["1.1@1"]
    bench.happen(ev.Collected("1.1@1"))
    assert asked(bench) == []
    ended(bench, 0, "done")
    ended(bench, 2, "done")
    collect_all(bench, 0, 2)
    assert outcome_of(bench) == (JobState.DONE, "")
    assert of_kind(asked(bench), Remove) == list(KEYS)


def test_one_failing_rank_ends_the_others_and_is_named() -> None:
    bench = gang("running", "running", "running")
    ended(bench, 2, "oom", reason="it used 2.0G of the 1.0G")
    stops = [action for action in asked(bench) if isinstance(action, StopAttempt)]
    assert sorted(action.attempt for action in stops) == ["1.1", "1.1@1"]
    assert stops[0].stop.grace_s > 0
    ended(bench, 0, "cancelled")
    ended(bench, 1, "failed", reason="exit code 1")  # it failed of itself meanwhile: the first one counts
    collect_all(bench, 0, 1, 2)
    assert outcome_of(bench) == (JobState.OOM, "rank 2 on c: it used 2.0G of the 1.0G")


def test_a_rank_that_cannot_be_launched_ends_the_others_and_the_job_is_queued_again() -> None:
    bench = gang("prepared", "", "")
    bench.happen(ev.StartFailed("1.1@2", "node", "the node's disk is full"))
    assert bench.state.attempts["1.1@1"].state is JobState.CANCELLED, "it was not sent yet"
    [stop] = asked(bench)
    assert isinstance(stop, StopAttempt)
    assert stop.attempt == "1.1"
    ended(bench, 0, "cancelled")
    collect_all(bench, 0)
    again = bench.state.jobs[1]
    assert (again.state, again.losses, again.avoid, again.retries_used) == (JobState.QUEUED, 1, ("c",), 0)


def test_a_gang_of_which_nothing_was_sent_is_queued_again_at_once() -> None:
    bench = gang("", "", "")
    bench.happen(ev.StartFailed("1.1@1", "node", "no answer"))
    invariants.check(bench.state)
    again = bench.state.jobs[1]
    assert (again.state, again.losses, again.avoid) == (JobState.QUEUED, 1, ("b",))


def test_a_lost_node_ends_the_others_before_the_job_runs_again() -> None:
    bench = gang("running", "running", "running")
    bench.happen(ev.NodeDisconnected("b", "no answer"))
    lose_unreachable(bench.state, bench.now + 600, 600)
    assert bench.state.jobs[1].state is JobState.RUNNING, "the others still run"
    assert sorted(one.attempt for one in asked(bench) if isinstance(one, StopAttempt)) == ["1.1", "1.1@2"]
    ended(bench, 0, "cancelled")
    ended(bench, 2, "cancelled")
    collect_all(bench, 0, 2)
    assert bench.state.jobs[1].state is JobState.QUEUED
    # The node comes back with the old rank: it is fenced, and news of it changes nothing.
    bench.happen(ev.NodeConnected("b", "b1", bench.state.nodes["b"].inventory, (report("1.1@1"),)))
    [fence] = [action for action in asked(bench) if isinstance(action, StopAttempt)]
    assert (fence.attempt, fence.stop.reason, fence.stop.signal) == ("1.1@1", "fenced", "KILL")


def test_what_a_rank_brought_outlives_its_node() -> None:
    bench = gang("running", "running", "running")
    for rank in (0, 1, 2):
        ended(bench, rank, "done")
    for rank in (0, 1, 2):
        bench.happen(ev.Collected(KEYS[rank]))
    bench.happen(ev.NodeDisconnected("a", "no answer"))
    lose_unreachable(bench.state, bench.now + 600, 600)
    [action] = asked(bench)
    bench.happen(ev.AssembleFailed(action.attempt, "the disk is full"))
    assert asked(bench) == []
    bench.now += 60
    assert asked(bench) == [action]
    bench.happen(ev.Assembled(action.attempt))
    assert outcome_of(bench) == (JobState.DONE, "")


def test_cancel_and_drain_reach_every_rank() -> None:
    bench = gang("running", "prepared", "")
    bench.happen(ev.DrainRequested("b", "new fan", now=True))
    stops = [action for action in asked(bench) if isinstance(action, StopAttempt)]
    assert sorted((action.attempt, action.stop.requeue) for action in stops) == [("1.1", True), ("1.1@1", True)]
    bench.happen(ev.CancelRequested(1, "cancelled by ann", 3.0, "INT"))
    stops = [action for action in asked(bench) if isinstance(action, StopAttempt)]
    told = sorted((action.attempt, action.stop.signal, action.stop.requeue) for action in stops)
    assert told == [("1.1", "INT", False), ("1.1@1", "INT", False)]


def test_a_cancelled_gang_is_not_tried_again() -> None:
    bench = gang("running", "running", "running")
    bench.happen(ev.CancelRequested(1, "cancelled by ann"))
    ended(bench, 1, "failed", reason="exit code 1")
    ended(bench, 0, "cancelled")
    ended(bench, 2, "done")
    collect_all(bench, 0, 1, 2)
    assert outcome_of(bench)[0] is JobState.CANCELLED
    assert "cancelled by ann" in outcome_of(bench)[1]


def test_where_ranks_meet() -> None:
    bench = gang("", "", "")
    ranks = bench.state.ranks(bench.state.attempts["1.1"])
    assert [rank.host for rank in ranks] == ["10.0.0.0", "10.0.0.1", "10.0.0.2"]
    assert [rank.port for rank in ranks] == [20010, 0, 0]
    bench.happen(ev.CancelRequested(1, "cancelled by ann"))
    bench.submit(job(1001, request(1), gang=2, nodes=("a", "b")), job(2001, request(1), gang=2, nodes=("a", "b")))
    bench.place()
    assert sorted(bench.state.attempts[f"{number}.1"].port for number in (1001, 2001)) == [20010, 20020]


def test_a_gang_counts_once_against_its_owners_limit_until_its_last_rank_has_ended() -> None:
    bench = gang("running", "running", "running")
    assert bench.state.running.of_owner["ann"] == 1
    ended(bench, 0, "done")
    assert bench.state.running.of_owner["ann"] == 1
    ended(bench, 1, "done")
    ended(bench, 2, "done")
    assert "ann" not in bench.state.running.of_owner
