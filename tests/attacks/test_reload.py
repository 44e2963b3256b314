"""A configuration that is read again: whatever one node or the file does to it, the next reload puts things right."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from racksack_controller.app import App, ReloadRefusedError
from racksack_controller.config.config import Config, ConfigError, NodeConfig
from racksack_controller.nodes.settings import LocalSettings
from racksack_jobspecs.yamltext import Problem
from tests.attacks.controllers import config_of, running, until


class File:
    """The configuration on disk: a faulty one raises instead."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.errors: list[Exception] = []

    def read(self) -> Config:
        if self.errors:
            raise self.errors.pop(0)
        return self.config

    def has(self, root: Path, *names: str, **changes: object) -> None:
        """From now on it has these nodes."""
        nodes = {name: NodeConfig(name=name, reach=LocalSettings(root / name), cpus=2, **changes) for name in names}
        self.config = replace(self.config, nodes=nodes)


def is_up(app: App, *names: str) -> Callable[[], bool]:
    return lambda: all(name in app.state.nodes and app.state.nodes[name].connected for name in names)


@pytest.mark.parametrize(
    "error", [RuntimeError("what is this?"), MemoryError(), PermissionError(13, "no"), KeyError("x")]
)
async def test_a_file_that_cannot_be_read_changes_nothing(root: Path, error: Exception) -> None:
    file = File(config_of(root))
    async with running(file.config, file.read) as app:
        await until(is_up(app, "here"), "the node is up")
        file.errors = [error, ConfigError(None, [Problem(1, "nodes", "it has a mistake")]), error]
        with pytest.raises(type(error)):
            await app.reload()
        with pytest.raises(ReloadRefusedError, match="it has a mistake"):
            await app.reload()
        app.spawn_reload()  # as by SIGHUP: nobody waits for it
        await until(lambda: not file.errors, "it was read")
        assert is_up(app, "here")()
        file.has(root, "other")
        await app.reload()
        await until(is_up(app, "other"), "the new node is up")
        assert "here" not in app.nodes


async def test_a_node_that_cannot_be_set_up_leaves_the_others_alone(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = File(config_of(root))
    async with running(file.config, file.read) as app:
        as_it_is, faults = app.power.add, ["odd"]

        async def faulty(name: str, *rest: object) -> None:
            if name in faults:
                faults.remove(name)
                raise RuntimeError("what is this?")
            await as_it_is(name, *rest)  # type: ignore[arg-type]

        monkeypatch.setattr(app.power, "add", faulty)
        file.has(root, "first", "odd", "last")
        await app.reload()
        await until(is_up(app, "first", "last"), "the others are up")
        await until(lambda: "could not be set up" in app.state.nodes["odd"].connection_reason, "it says why")
        await app.reload()
        await until(is_up(app, "first", "odd", "last"), "all are up after the next reload")


async def test_a_connection_that_cannot_be_closed_is_forgotten_all_the_same(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = File(config_of(root))
    async with running(file.config, file.read) as app:
        await until(is_up(app, "here"), "the node is up")
        node = app.nodes["here"]
        as_it_is = node.close

        async def faulty() -> None:
            await as_it_is()
            raise RuntimeError("what is this?")

        monkeypatch.setattr(node, "close", faulty)
        file.has(root, "here", max_jobs=1)
        await app.reload()
        await until(lambda: is_up(app, "here")() and app.nodes["here"] is not node, "it is connected anew")
        file.has(root, "other")
        await app.reload()
        await until(is_up(app, "other"), "the new node is up")
        assert set(app.nodes) == {"other"}


async def test_many_reloads_at_once_come_one_after_the_other(root: Path) -> None:
    file = File(config_of(root))
    async with running(file.config, file.read) as app:
        reloads = []
        for names in (("a", "b"), ("b", "c"), ("c", "a")):
            file.has(root, *names)
            reloads += [asyncio.create_task(app.reload()) for _ in range(2)]
            await asyncio.sleep(0)
        await asyncio.gather(*reloads)
        await until(is_up(app, "a", "c"), "the nodes of the last are up")
        assert set(app.nodes) == {"a", "c"}
