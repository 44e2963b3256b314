"""Jobs go where their content is where that saves time, and what is to be sent counts in what is said of a start."""

from __future__ import annotations

import msgspec
import pytest

from racksack_controller.core import events as ev
from racksack_controller.core.placing.transfers import transfer_s
from racksack_controller.core.policy import Backfill, Policy
from racksack_controller.core.records import DataMount, Job
from racksack_controller.core.why import why_job
from racksack_jobspecs.resources import Inventory
from tests.core.builders import GIB, Bench, inventory, job, node, report, request

PRICES = "d" * 64


def rack(*names: str, kind: str = "ssh") -> Bench:
    return Bench(*(node(name, kind=kind) for name in names))


def with_prices(one: Job, gib: float = 2.0) -> Job:
    return msgspec.structs.replace(one, data=(DataMount(name="prices", digest=PRICES, bytes=int(gib * GIB)),))


def connected(name: str, *contents: str, has: Inventory | None = None) -> ev.NodeConnected:
    return ev.NodeConnected(name, "b1", has or inventory(), (), contents=contents)


@pytest.mark.parametrize("backfill", [Backfill.EASY, Backfill.CONSERVATIVE])
def test_a_job_goes_where_its_data_is(backfill: Backfill) -> None:
    bench = rack("n1", "n2", "n3")
    bench.happen(connected("n2", PRICES))
    bench.submit(with_prices(job(1)))
    [placed] = bench.place(Policy(backfill=backfill))
    assert placed.node == "n2"
    if backfill is Backfill.EASY:
        assert placed.why == "best of 3 nodes with room; it has the content"


def test_what_was_launched_there_is_there_and_a_new_connection_says_it_anew() -> None:
    bench = rack("n1", "n2")
    bench.submit(with_prices(job(1, nodes=("n2",))))
    bench.run(1)
    assert transfer_s(bench.state, bench.state.jobs[1], "n2") == 0.0
    bench.submit(with_prices(job(2)))
    assert [placed.node for placed in bench.place()] == ["n2"]
    bench.happen(connected("n2"))
    assert transfer_s(bench.state, bench.state.jobs[1], "n2") > 30.0


def test_little_content_decides_nothing_nor_does_the_machine_of_the_controller() -> None:
    for bench, gib in ((rack("n1", "n2"), 0.05), (rack("n1", "n2", kind="local"), 20.0)):
        bench.happen(connected("n2", PRICES))
        bench.submit(with_prices(job(1), gib))
        [placed] = bench.place()
        assert placed.why == "best of 2 nodes with room"


def test_no_node_is_waited_for_because_of_its_content() -> None:
    bench = rack("n1", "n2")
    bench.happen(connected("n2", PRICES))
    bench.submit(job(1, request(8), nodes=("n2",)))
    bench.run(1)
    bench.submit(with_prices(job(2, request(8))))
    [placed] = bench.place()
    assert placed.node == "n1"
    assert placed.why == "n1 is the only node with room; 2G must be sent to n1, which takes about 43s"


def test_the_measured_rate_of_a_link_counts() -> None:
    bench = rack("n1", "n2")
    bench.submit(with_prices(job(1)))
    wanted = bench.state.jobs[1]
    bench.happen(ev.Transferred("n1", 1_000_000_000, 100.0))
    assert transfer_s(bench.state, wanted, "n1") == pytest.approx(2 * GIB / 1e7)
    bench.happen(ev.Transferred("n1", 1_000_000_000, 10.0))
    assert transfer_s(bench.state, wanted, "n1") == pytest.approx(2 * GIB / 5.5e7)
    assert [placed.node for placed in bench.place()] == ["n1"], "the faster link"


def test_a_gang_takes_the_nodes_to_which_the_least_is_sent() -> None:
    bench = rack("n1", "n2", "n3", "n4")
    bench.happen(connected("n2", PRICES), connected("n4", PRICES))
    bench.submit(with_prices(job(1, gang=2)))
    [placed] = bench.place()
    assert {placed.node, placed.rest[0].node} == {"n2", "n4"}


def test_an_expected_start_counts_what_is_to_be_sent_first() -> None:
    bench = rack("n1")
    bench.submit(job(1, request(8), time_limit_s=600.0))
    bench.run(1)
    bench.submit(with_prices(job(2, request(8))))
    bench.place()
    told = why_job(bench.reading(), bench.state.jobs[2])
    assert "43s of it for sending its content" in told
    bench.happen(connected("n1", PRICES))
    bench.happen(ev.Reported("n1", report("1.1", "running")))
    told = why_job(bench.reading(), bench.state.jobs[2])
    assert "to send" not in told


def test_what_an_event_that_fails_has_learnt_is_forgotten() -> None:
    bench = rack("n1")
    bench.submit(with_prices(job(1)))
    bench.state.take_changes()
    mark = bench.state.journal.mark()
    bench.state.contents.add("n1", [PRICES])
    bench.state.contents.note_rate("n1", 10**9, 1.0)
    assert transfer_s(bench.state, bench.state.jobs[1], "n1") == 0.0
    bench.state.journal.roll_back(mark)
    assert transfer_s(bench.state, bench.state.jobs[1], "n1") == pytest.approx(2 * GIB / 50e6)
