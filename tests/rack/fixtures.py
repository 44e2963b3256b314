"""pytest fixtures that hand out racks. A test that needs one is marked `rack` or uses one of these, and is skipped by
name with the reason where a rack cannot be built."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.rack.assembly import Rack
from tests.rack.layout import RackSpec, ServerSpec
from tests.rack.probe import missing

BuildRack = Callable[..., Rack]
_FIXTURES = {"build_rack", "build_module_rack", "rack"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses a rack, and skip it with the reason where none can be built."""
    for item in items:
        uses_rack = _FIXTURES & set(getattr(item, "fixturenames", ()))
        if uses_rack:
            item.add_marker(pytest.mark.rack)
        if (uses_rack or item.get_closest_marker("rack")) and (reason := missing()):
            item.add_marker(pytest.mark.skip(reason=reason))


def _builder() -> Iterator[BuildRack]:
    racks: list[Rack] = []

    def build(*servers: ServerSpec) -> Rack:
        """Build a rack of these servers, all off; of the usual ones if none are given."""
        racks.append(Rack.build(RackSpec(servers) if servers else None))
        return racks[-1]

    yield build
    for rack in racks:
        rack.remove()


@pytest.fixture
def build_rack() -> Iterator[BuildRack]:
    """Build racks for one test: `build_rack(ServerSpec(...), ...)`."""
    yield from _builder()


@pytest.fixture(scope="module")
def build_module_rack() -> Iterator[BuildRack]:
    """Build racks that the tests of one module share."""
    yield from _builder()


@pytest.fixture(scope="module")
def rack(build_module_rack: BuildRack) -> Rack:
    """The usual rack (laptop, controller, r1, r2 behind r1, r3), all on, shared by the tests of a module."""
    built = build_module_rack()
    built.up()
    return built
