"""Floods of job files: so much of one user is in mind and in memory, and the files of others come at once."""

import asyncio
import os
from pathlib import Path

from racksack_controller.intake.drop import DroppedFile
from racksack_controller.intake.names import BYTES_OF_ONE, FILES_OF_ONE, NAMES_OF_ONE, Names
from racksack_controller.intake.spool import prepare
from racksack_controller.intake.watcher import Watcher
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.yamltext import TEXT_BYTES_MAX
from tests.attacks.controllers import until
from tests.lag import BUSY_S_MAX, watched_loop
from tests.spool.conftest import needs_root

EVE, BOB = 65534, 65533
LINE = "# " + "x" * 97 + "\n"


def fill(jobs: Path, count: int, text: str, uid: int, name: str = "flood") -> None:
    """Files in jobs/ as another user's program leaves them there."""
    for number in range(count):
        beside = jobs / f".{name}{number}.new"
        beside.write_text(text)
        os.chown(beside, uid, -1)
        beside.rename(jobs / f"{name}{number}.yaml")


class Consumer:
    """Takes what a watcher gives out, and settles it when it is told to."""

    def __init__(self, spool: Spool) -> None:
        self.watcher = Watcher(spool, 0.1, 5.0)
        self.held: list[DroppedFile] = []
        self.names: set[str] = set()
        self.settles = False

    async def run(self) -> None:
        async for file in self.watcher.files():
            self.names.add(file.path.name)
            self.held.append(file)
            if self.settles:
                self.settle()

    def settle(self) -> None:
        for file in self.held:
            file.path.unlink(missing_ok=True)
            self.watcher.settled(file)
        self.held = []

    def of(self, uid: int) -> list[DroppedFile]:
        return [file for file in self.held if file.owner_uid == uid]


@needs_root
async def test_large_files_of_one_user_are_in_memory_a_few_at_a_time(root: Path) -> None:
    """Two hundred of nearly 1 MiB, none of which is settled; 2,000 used to be read, gigabytes."""
    spool = Spool(root / "spool")
    prepare(spool)
    fill(spool.jobs, 200, LINE * (TEXT_BYTES_MAX // len(LINE)), EVE)
    consumer = Consumer(spool)
    running = asyncio.create_task(consumer.run())
    try:
        await until(lambda: sum(len(file.text) for file in consumer.of(EVE)) >= BYTES_OF_ONE, "what may be in memory")
        fill(spool.jobs, 1, "project: a\nentrypoint: b.py\n", BOB, "bob")
        await until(lambda: "bob0.yaml" in consumer.names, "another user's file")
        assert sum(len(file.text) for file in consumer.of(EVE)) < BYTES_OF_ONE + 2 * TEXT_BYTES_MAX
        consumer.settles = True
        consumer.settle()
        await until(lambda: len(consumer.names) == 201, "all of them in the end")
    finally:
        running.cancel()
        await asyncio.wait([running])


@needs_root
async def test_many_files_of_one_user_come_in_parts(root: Path) -> None:
    spool = Spool(root / "spool")
    prepare(spool)
    fill(spool.jobs, NAMES_OF_ONE + 500, "nonsense", EVE)
    consumer = Consumer(spool)
    async with watched_loop() as lag:
        running = asyncio.create_task(consumer.run())
        try:
            await until(lambda: len(consumer.of(EVE)) >= FILES_OF_ONE, "as many as may be under way")
            fill(spool.jobs, 1, "project: a\nentrypoint: b.py\n", BOB, "bob")
            await until(lambda: "bob0.yaml" in consumer.names, "another user's file")
            assert len(consumer.of(EVE)) < FILES_OF_ONE + 64  # and what is left of the batch
            consumer.settles = True
            consumer.settle()
            await until(lambda: len(consumer.names) == NAMES_OF_ONE + 501, "all of them, without waiting for a rescan")
        finally:
            running.cancel()
            await asyncio.wait([running])
    assert lag.busy_s < BUSY_S_MAX


def test_names_are_kept_in_mind_up_to_a_number_for_each_user() -> None:
    names = Names()
    for number in range(NAMES_OF_ONE + 10):
        names.add(f"e{number}", EVE, 0.0)
    assert len(names) == NAMES_OF_ONE
    assert names.add("b", BOB, 0.0) is not None
    assert [name for name, _ in names.due(0.0, 4)] in (["e0", "b", "e1", "e2"], ["b", "e0", "e1", "e2"])
    assert [name for name, _ in names.due(0.0, 4, [EVE])] == ["b"]
    assert not names.has_room_again()
    for number in range(NAMES_OF_ONE // 2):
        names.remove(f"e{number}")
    assert names.has_room_again()
    assert not names.has_room_again(), "one look through the folder is enough"


def test_a_name_that_stands_for_another_users_file_counts_for_that_user() -> None:
    names = Names()
    names.add("x", EVE, 0.0)
    entry = names.add("x", BOB, 0.0)
    assert entry is not None
    assert entry.uid == BOB
    assert len(names) == 1
    assert names.due(0.0, 4, [BOB]) == []
