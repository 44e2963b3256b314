"""The way to the controller when it is broken, slow, mute or talking nonsense."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest
from tests.client.conftest import Cli
from tests.client.stand_in import StandIn, serve

from racksack.client import Client
from racksack.errors import RacksackError, RefusedError, UnreachableError, WaitTimeoutError
from racksack.following import Patience, follow_log, wait_for
from racksack.transport.connection import Connection
from racksack.transport.target import Target


def test_no_controller_is_exit_four(cli: Cli, tmp_path: Path) -> None:
    ended = cli("racksack", "status", "--controller", str(tmp_path / "nowhere"))
    assert ended.code == 4
    assert "no controller is running there" in ended.err
    assert "nothing was changed" in ended.err


def test_a_socket_without_listener_is_exit_four(cli: Cli, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(tmp_path / "controller.sock"))
    assert cli("racksack", "status", "--controller", str(tmp_path)).code == 4


def test_a_spool_deeper_than_a_socket_address(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    state = StandIn(deep / "spool")
    monkeypatch.chdir(state.spool)
    server = serve(state, "controller.sock")
    monkeypatch.chdir(tmp_path)
    assert cli("racksack", "status", "--controller", str(state.spool)).code == 0
    server.shutdown()
    server.server_close()


def test_a_broken_answer_is_asked_for_again_on_a_used_connection(controller: StandIn) -> None:
    with Client() as client:
        client.status()
        controller.cut_next = 1
        client.status()
    assert controller.requests == ["GET status"] * 3


def test_a_broken_post_is_not_repeated(controller: StandIn) -> None:
    number = controller.add_job()
    with Client() as client:
        client.status()
        controller.cut_next = 1
        with pytest.raises(UnreachableError, match="does not answer"):
            client.act(number, "cancel")
    assert controller.requests.count(f"POST jobs/{number}/cancel") == 1


def test_a_connection_works_after_a_failed_connect(tmp_path: Path) -> None:
    """Nothing listens, then a controller does: the second request is answered, not only the third."""
    spool = tmp_path / "spool"
    spool.mkdir()
    connection = Connection(Target(str(spool)))
    for _ in range(2):
        with pytest.raises(UnreachableError, match="no controller is running there"):
            connection.request("GET", "status")
    state = StandIn(spool)
    server = serve(state, str(state.spool / "controller.sock"))
    try:
        assert connection.request("GET", "status").body
        assert connection.request("POST", "reload", body=b"{}").body
    finally:
        connection.close()
        server.shutdown()
        server.server_close()


def test_a_connection_works_after_ctrl_c_and_after_a_mute_controller(
    controller: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = Connection(Target(str(controller.spool)))

    def interrupted(_target: Target) -> socket.socket:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("racksack.transport.connection.open_local", interrupted)
        with pytest.raises(KeyboardInterrupt):
            connection.request("GET", "status")
    assert connection.request("GET", "status").body
    controller.cut_next = 1
    with pytest.raises(UnreachableError):
        connection.request("POST", "reload", body=b"{}")
    assert connection.request("GET", "status").body
    connection.close()


@pytest.mark.parametrize("garbage", [b"<html>", b"{}", b'{"jobs": 3}', b"\xff\xfe", b""])
def test_nonsense_is_one_sentence(cli: Cli, controller: StandIn, garbage: bytes) -> None:
    controller.garbage_next = garbage
    ended = cli("racksack", "nodes")
    assert ended.code == 1
    assert "cannot understand" in ended.err
    assert len(ended.err.splitlines()) == 1


def test_a_refusal_keeps_its_sentence_and_code(cli: Cli, controller: StandIn) -> None:
    controller.refuse_next = (409, "r1 has no job\x1b[2J", 5)
    ended = cli("racksack", "resume", "r1")
    assert ended.code == 5
    assert ended.err == "r1 has no job\\x1b[2J\n"


def test_a_mute_controller_is_given_up(controller: StandIn, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as mute:
        (tmp_path / "mute").mkdir()
        mute.bind(str(tmp_path / "mute/controller.sock"))
        mute.listen()
        connection = Connection(Target(str(tmp_path / "mute")))
        with pytest.raises(UnreachableError, match="silent for too long"):
            connection.request("GET", "status", timeout_s=0.2)
        connection.close()


def test_a_log_is_followed_through_broken_answers_without_loss(controller: StandIn) -> None:
    number = controller.add_job(state="running")
    text = b"".join(b"line %d\n" % line for line in range(2000))
    said: list[str] = []

    def grow() -> None:
        for at in range(0, len(text), 997):
            controller.logs[number, "stdout"] = text[: at + 997]
            if at % 4 == 0:
                controller.cut_next = 2
            time.sleep(0.002)
        controller.jobs[number]["state"] = "done"

    thread = threading.Thread(target=grow)
    thread.start()
    with Client() as client:
        got = b"".join(follow_log(client, number, "stdout", patience=Patience(said.append)))
    thread.join()
    assert got == text


def test_patience_ends(controller: StandIn) -> None:
    said: list[str] = []

    def never() -> None:
        raise UnreachableError("no way")

    begun = time.monotonic()
    with pytest.raises(UnreachableError):
        Patience(said.append, give_up_s=0.6).ask(never)
    assert time.monotonic() - begun < 60
    assert said == ["no way; retrying"]


def test_a_refusal_is_not_waited_out() -> None:
    def refused() -> None:
        raise RefusedError("not yours")

    with pytest.raises(RefusedError):
        Patience().ask(refused)


def test_waiting_ends_in_time(controller: StandIn) -> None:
    number = controller.add_job(state="running")
    with Client() as client, pytest.raises(WaitTimeoutError, match=f"not ended yet: {number}"):
        wait_for(client, [number], timeout_s=0.3)


def test_waiting_for_any(controller: StandIn) -> None:
    first, second = controller.add_job(state="running"), controller.add_job(state="running")
    threading.Timer(0.2, lambda: controller.finish(second)).start()
    with Client() as client:
        assert [job.id for job in wait_for(client, [first, second], any_of=True, timeout_s=20)] == [second]


def test_the_answer_of_a_newer_controller_is_read(controller: StandIn) -> None:
    controller.add_job(state="queued", invention={"of": "tomorrow"})
    with Client() as client:
        assert client.status().jobs[0].id == 1


def test_all_pages_of_a_long_list_come(controller: StandIn) -> None:
    for _ in range(2500):
        controller.add_job(state="queued")
    with Client() as client:
        assert [job.id for job in client.jobs()] == list(range(2500, 0, -1))


def test_an_embedded_controller_that_cannot_start_says_why(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real program, kept from starting by a file where its spool should be."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "spool").write_text("in the way")
    monkeypatch.setenv("RACKSACK_HOME", str(home))
    ended = cli("racksack", "status")
    assert ended.code in (1, 4)
    assert "the embedded controller did not start" in ended.err
    assert str(home / "controller.log") in ended.err


def test_without_the_controllers_part_the_extra_is_named(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import racksack.transport.embedded as embedded

    monkeypatch.setattr(embedded, "_NEEDED", ("a_package_that_nobody_has",))
    monkeypatch.setenv("RACKSACK_HOME", str(tmp_path / "home"))
    ended = cli("racksack", "status")
    assert ended.code == 4
    assert "[controller]" in ended.err
    assert "'racksack[controller]'" not in ended.err, "a name on the package index is not ours"
    assert "RACKSACK_CONTROLLER" in ended.err


def test_an_unforeseen_fault_is_a_sentence(cli: Cli, controller: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Client, "status", lambda self: 1 / 0)
    ended = cli("racksack", "status")
    assert ended.code == 1
    assert "internal error in racksack: ZeroDivisionError" in ended.err


def test_errors_carry_their_codes() -> None:
    from racksack.errors import error_for_code

    assert type(error_for_code(3, "x")).__name__ == "NotFoundError"
    assert type(error_for_code(99, "x")) is RacksackError
