"""The rigs as fixtures."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.power import ipmi_bmc, rigs
from tests.power.rigs import Rig


@pytest_asyncio.fixture
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    """The rig named by the parameter, taken down again in the end."""
    if request.param == "ipmi" and ipmi_bmc.MISSING:
        pytest.skip(ipmi_bmc.MISSING)
    made = rigs.RIGS[request.param](tmp_path)
    yield made
    await made.driver.close()
    await made.nowhere.close()
    for stop in made.stops:
        ended = stop()
        if inspect.isawaitable(ended):
            await ended
