"""Redfish as BMCs really speak it: lag, transitions, limited reset types, redirects, old services, odd answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic

import pytest
import pytest_asyncio

from racksack_controller.power.driver import (
    PowerLoginRefused,
    PowerNotAllowed,
    PowerProtocolError,
    PowerState,
    PowerTimedOut,
    PowerUntrusted,
)
from racksack_controller.power.tls import Trust
from tests.power import rigs
from tests.power.redfish_server import SESSIONS, SYSTEM, RedfishServer
from tests.power.rigs import Rig


@pytest_asyncio.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = rigs.redfish(tmp_path)
    yield made
    await made.driver.close()
    made.device.stop()


@pytest.fixture
def bmc(rig: Rig) -> RedfishServer:
    return rig.device


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("On", PowerState.ON),
        ("Off", PowerState.OFF),
        ("PoweringOn", PowerState.TRANSITION),
        ("PoweringOff", PowerState.TRANSITION),
        ("Reset", PowerState.TRANSITION),
        ("Paused", PowerState.UNKNOWN),
        ("Sulking", PowerState.UNKNOWN),
    ],
)
async def test_every_word_for_the_state(rig: Rig, bmc: RedfishServer, word: str, state: PowerState) -> None:
    bmc.faults.state_word = word
    reading = await rig.driver.status()
    assert (reading.state, reading.raw) == (state, word)


async def test_a_state_that_lags_behind_does_not_stop_the_next_act(rig: Rig, bmc: RedfishServer) -> None:
    """Right after `on` the BMC still says Off; `hard_off` must act all the same, not believe it."""
    bmc.faults.lag_s = 30
    await rig.driver.on()
    assert (await rig.driver.status()).state is PowerState.OFF
    await rig.driver.hard_off()
    assert rig.machine.events == ["on", "off"]


async def test_transitional_states_are_told_as_such(rig: Rig, bmc: RedfishServer) -> None:
    bmc.faults.transition_s = 30
    await rig.driver.on()
    assert (await rig.driver.status()).raw == "PoweringOn"


async def test_400_on_already_there_is_success_and_touches_nothing(rig: Rig, bmc: RedfishServer) -> None:
    await rig.driver.hard_off()
    assert bmc.record.resets == ["ForceOff"]
    assert rig.machine.events == []


async def test_an_ilo_4_is_shut_down_by_its_button(rig: Rig, bmc: RedfishServer) -> None:
    bmc.faults.reset_types = ("On", "ForceOff", "ForceRestart", "Nmi", "PushPowerButton")
    rig.machine.on()
    await rig.driver.soft_off()
    assert bmc.record.resets == ["PushPowerButton"]
    assert not rig.machine.is_on()
    await rig.driver.soft_off()
    assert bmc.record.resets == ["PushPowerButton"], "a second push would have switched it on"


async def test_a_button_only_bmc_is_switched_on_by_it(rig: Rig, bmc: RedfishServer) -> None:
    bmc.faults.reset_types = ("PushPowerButton", "ForceOff")
    await rig.driver.on()
    await rig.driver.on()
    assert rig.machine.events == ["on"]


@pytest.mark.parametrize("word", ["Reset", "PoweringOff", "Unknown"])
async def test_the_button_is_not_pushed_in_a_state_where_it_may_do_the_opposite(
    rig: Rig, bmc: RedfishServer, word: str
) -> None:
    bmc.faults.reset_types = ("PushPowerButton",)
    bmc.faults.state_word = word
    with pytest.raises(PowerNotAllowed, match="opposite"):
        await rig.driver.on()
    assert bmc.record.resets == []


async def test_a_type_refused_in_practice_gives_way_to_the_next(rig: Rig, bmc: RedfishServer) -> None:
    rig.machine.on()
    bmc.faults.refused_types = ("GracefulShutdown",)
    await rig.driver.soft_off()
    assert bmc.record.resets == ["GracefulShutdown", "PushPowerButton"]
    assert not rig.machine.is_on()


async def test_nothing_fits(rig: Rig, bmc: RedfishServer) -> None:
    bmc.faults.reset_types = ("ForceRestart",)
    with pytest.raises(PowerNotAllowed, match="allows only ForceRestart"):
        await rig.driver.on()
    report = await rig.driver.check()
    assert len(report.problems) == 2
    assert report.reset_types == ("ForceRestart",)


async def test_a_refusal_repeats_what_the_bmc_said(rig: Rig, bmc: RedfishServer) -> None:
    bmc.faults.refused_types = ("On", "ForceOn", "PushPowerButton")
    with pytest.raises(PowerNotAllowed, match=r"HTTP 400.*ActionParameterNotSupported"):
        await rig.driver.on()


async def test_reset_types_from_action_info(rig: Rig, bmc: RedfishServer) -> None:
    bmc.faults.action_info = True
    bmc.faults.reset_types = ("On", "ForceOff", "PushPowerButton")
    rig.machine.on()
    await rig.driver.soft_off()
    assert bmc.record.resets == ["PushPowerButton"]


async def test_no_allowable_values_at_all(rig: Rig, bmc: RedfishServer) -> None:
    bmc.faults.reset_types = ()
    await rig.driver.on()
    assert bmc.record.resets == ["On"]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirects_to_a_trailing_slash_keep_method_and_body(rig: Rig, bmc: RedfishServer, status: int) -> None:
    bmc.faults.slash_redirect = status
    await rig.driver.on()
    assert rig.machine.is_on()
    assert bmc.record.logins == 1
    await rig.driver.close()
    assert bmc.record.sessions == {}


async def test_a_redirect_to_another_host_is_not_followed(rig: Rig, bmc: RedfishServer, tmp_path: Path) -> None:
    thief = RedfishServer(rig.machine, tmp_path / "thief").start()
    bmc.faults.redirect_to = thief.url
    with pytest.raises(PowerProtocolError, match="another host"):
        await rig.driver.status()
    assert thief.record.requests == []
    thief.stop()


async def test_sessions_are_used_again_and_ended(rig: Rig, bmc: RedfishServer) -> None:
    for _ in range(3):
        await rig.driver.status()
    assert bmc.record.logins == 1
    assert len(bmc.record.sessions) == 1
    await rig.driver.close()
    assert bmc.record.sessions == {}


async def test_a_session_the_bmc_has_forgotten_is_renewed(rig: Rig, bmc: RedfishServer) -> None:
    await rig.driver.status()
    bmc.record.sessions.clear()
    assert (await rig.driver.status()).state is PowerState.OFF
    assert bmc.record.logins == 2


async def test_a_service_without_sessions(rig: Rig, bmc: RedfishServer) -> None:
    bmc.faults.no_sessions = True
    await rig.driver.on()
    assert rig.machine.is_on()


async def test_a_wrong_password_is_tried_once(rig: Rig, bmc: RedfishServer, tmp_path: Path) -> None:
    driver = rig.make(secret=rigs.password_file(tmp_path / "other", "wrong"))
    with pytest.raises(PowerLoginRefused):
        await driver.on()
    assert bmc.record.refused == 1, "each refusal brings the account nearer to being locked"


async def test_a_user_without_the_right_to_switch(rig: Rig, bmc: RedfishServer) -> None:
    """A session that is refused at the action itself is a refused login, not a reason to try more reset types."""
    await rig.driver.status()
    bmc.password = "changed"
    bmc.record.sessions.clear()
    with pytest.raises(PowerLoginRefused):
        await rig.driver.on()
    assert bmc.record.resets == []


async def test_another_certificate_gets_no_password(rig: Rig, bmc: RedfishServer) -> None:
    driver = rig.make(trust=Trust(fingerprint="sha256:" + "0" * 64))
    with pytest.raises(PowerUntrusted, match=bmc.fingerprint):
        await driver.status()
    assert bmc.record.requests == []


async def test_an_unknown_certificate_offers_its_fingerprint(rig: Rig, bmc: RedfishServer) -> None:
    driver = rig.make(trust=Trust())
    with pytest.raises(PowerUntrusted, match=bmc.fingerprint):
        await driver.status()
    assert bmc.record.requests == []


async def test_no_verification_when_the_owner_says_so(rig: Rig) -> None:
    driver = rig.make(trust=Trust(verify=False))
    assert (await driver.status()).state is PowerState.OFF
    await driver.close()


async def test_the_environments_proxy_is_not_for_bmcs(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert (await rig.driver.status()).state is PowerState.OFF


async def test_an_action_is_sent_once_even_when_the_answer_is_lost(rig: Rig, bmc: RedfishServer) -> None:
    bmc.faults.reset_types = ("PushPowerButton", "ForceOff")
    bmc.faults.drop_answer = True
    with pytest.raises(Exception, match="closed the connection"):
        await rig.driver.on()
    assert bmc.record.resets == ["PushPowerButton"]
    assert rig.machine.is_on()
    bmc.faults.drop_answer = False
    await rig.driver.on()
    assert rig.machine.events == ["on"]


async def test_one_server_error_is_forgiven_when_reading(rig: Rig, bmc: RedfishServer) -> None:
    await rig.driver.status()
    bmc.faults.error_500 = 1
    assert (await rig.driver.status()).state is PowerState.OFF
    bmc.faults.error_500 = 5
    with pytest.raises(PowerProtocolError, match="HTTP 500"):
        await rig.driver.status()


async def test_an_answer_that_is_not_json(rig: Rig, bmc: RedfishServer) -> None:
    bmc.faults.not_json = True
    with pytest.raises(PowerProtocolError, match="not JSON"):
        await rig.driver.status()


async def test_several_systems_need_a_name(rig: Rig, bmc: RedfishServer) -> None:
    bmc.faults.systems = ("Node1", "Node2")
    with pytest.raises(PowerProtocolError, match="Node1, Node2"):
        await rig.driver.status()
    driver = rig.make(system="Node2")
    await driver.on()
    assert rig.machine.is_on()
    assert any("/Systems/Node2/Actions/" in request for request in bmc.record.requests)
    await driver.close()


@pytest.mark.parametrize("where", ["Power", "EnvironmentMetrics", "Sensors"])
async def test_watts_wherever_they_stand(rig: Rig, bmc: RedfishServer, where: str) -> None:
    bmc.faults.watts_at = where
    bmc.faults.watts = 87.5
    assert await rig.driver.watts() == 87.5


async def test_what_does_not_change_is_read_once(rig: Rig, bmc: RedfishServer) -> None:
    """A BMC may take half a minute for each answer: once logged in, switching is one request, and so is each look."""
    asked = bmc.record.requests
    await rig.driver.status()
    assert len(asked) == 4, "service root, login, systems, system"
    await rig.driver.watts()
    for call, requests in (
        (rig.driver.on, [f"POST {SYSTEM}/Actions/ComputerSystem.Reset"]),
        (rig.driver.status, [f"GET {SYSTEM}"]),
        (rig.driver.watts, ["GET /redfish/v1/Chassis/1/Power"]),
        (rig.driver.soft_off, [f"POST {SYSTEM}/Actions/ComputerSystem.Reset"]),
    ):
        asked.clear()
        await call()
        assert asked == requests
    assert rig.machine.events == ["on", "soft_off"]


async def test_types_that_are_allowed_no_more_are_read_anew(rig: Rig, bmc: RedfishServer) -> None:
    await rig.driver.status()
    bmc.faults.reset_types = ("ForceOn", "ForceOff")
    await rig.driver.on()
    assert bmc.record.resets == ["On", "PushPowerButton", "ForceOn"]
    bmc.faults.action_info = True
    bmc.faults.reset_types = ("ForceOff", "PushPowerButton")
    await rig.driver.soft_off()
    assert bmc.record.resets[3:] == ["PushPowerButton"]


async def test_watts_that_stand_elsewhere_by_now_are_found(rig: Rig, bmc: RedfishServer) -> None:
    assert await rig.driver.watts() == 120.0
    bmc.faults.watts_at = "Sensors"
    bmc.faults.watts_gone = "Power"
    assert await rig.driver.watts() == 120.0


async def test_no_sensor_no_watts(rig: Rig, bmc: RedfishServer) -> None:
    bmc.faults.watts_at = "Assembly"
    assert await rig.driver.watts() is None


async def test_a_slow_answer_is_waited_for_within_the_limit(rig: Rig, bmc: RedfishServer) -> None:
    bmc.faults.slow_s = 0.3
    await rig.driver.on(15)
    assert rig.machine.is_on()


async def test_the_limit_is_one_request_s_so_a_call_of_many_slow_answers_succeeds(rig: Rig, bmc: RedfishServer) -> None:
    bmc.faults.slow_s = 0.4
    driver = rig.make(timeout_s=1.0)
    began_s = monotonic()
    await driver.on()
    assert rig.machine.is_on()
    assert monotonic() - began_s > 1.0
    bmc.faults.slow_s = 8
    with pytest.raises(PowerTimedOut, match="no answer within 1 s"):
        await driver.status()
    await driver.close()


async def test_after_a_hang_the_next_call_starts_afresh_and_the_old_session_is_ended(
    rig: Rig, bmc: RedfishServer
) -> None:
    await rig.driver.status()
    bmc.faults.slow_s = 1.5
    with pytest.raises(PowerTimedOut):
        await rig.driver.status(0.3)
    bmc.faults.slow_s = 0
    assert (await rig.driver.status()).state is PowerState.OFF
    async with asyncio.timeout(20):
        while len(bmc.record.sessions) > 1:
            await asyncio.sleep(0.05)
    assert any(request.startswith(f"DELETE {SESSIONS}") for request in bmc.record.requests)


async def test_a_bmc_that_never_answers_does_not_gather_threads(rig: Rig, bmc: RedfishServer) -> None:
    bmc.faults.slow_s = 8
    for _ in range(3):
        with pytest.raises(PowerTimedOut, match="no answer"):
            await rig.driver.status(0.1)
    with pytest.raises(PowerTimedOut, match="earlier calls"):
        await rig.driver.status(0.1)
