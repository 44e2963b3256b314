"""A look that hangs is told, is not begun again, and keeps nothing waiting."""

from __future__ import annotations

import asyncio
import threading

from racksack_controller.checks.looks import Looks
from racksack_jobspecs.findings import Finding, Verdict, ok


async def test_a_look_that_hangs_is_told_and_not_begun_twice() -> None:
    looks, go, begun = Looks(), threading.Event(), []

    def hang() -> list[Finding]:
        begun.append(threading.get_ident())
        go.wait(60)
        return [ok("spool", "answers after all")]

    first = await asyncio.gather(*(looks.take("spool", hang, 0.05, "its disk does not answer") for _ in range(3)))
    assert [[finding.verdict for finding in found] for found in first] == [[Verdict.FAILED]] * 3
    assert "no answer within" in first[0][0].sentence
    assert "its disk does not answer" in first[0][0].sentence
    assert (await looks.take("store", lambda: [ok("store", "intact")], 60, ""))[0].verdict is Verdict.OK
    waiting = asyncio.ensure_future(looks.take("spool", hang, 60, ""))
    await asyncio.sleep(0)
    go.set()
    assert (await waiting)[0].sentence == "answers after all"
    assert len(begun) == 1
    assert (await looks.take("spool", hang, 60, ""))[0].verdict is Verdict.OK
    assert len(begun) == 2, "a look that has ended is made anew"


async def test_a_look_that_breaks_spoils_no_other() -> None:
    def broken() -> list[Finding]:
        raise ZeroDivisionError

    looks = Looks()
    found = await asyncio.gather(
        looks.take("a", broken, 60, ""), looks.take("b", lambda: [ok("b", "as it should be")], 60, "")
    )
    assert [one.verdict for [one] in found] == [Verdict.FAILED, Verdict.OK]
    assert "log" in found[0][0].sentence
