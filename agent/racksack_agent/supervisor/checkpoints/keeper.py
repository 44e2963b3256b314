"""Takes checkpoints of a running program: in a thread of the supervisor, which must not wait for a copy.

When: at every mark of the program (as long as that costs a twentieth of the time at most), else, until there was a mark
for the first time, at the interval that the job asked for; after a warning or a request to end as often as something
changed; and once more at the end. What was taken is told by the supervisor's reports, and brought away by the
controller.

Nothing half-written is taken: without a mark no process may have one of the files open for writing, and the program
must live on after the copy, since a program that was killed leaves half a file as still as a whole one.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any, Callable, Dict, List, Optional

from racksack_agent import digest as content
from racksack_agent import records
from racksack_agent.home import AttemptFolder
from racksack_agent.supervisor.checkpoints import kept, taking, writers
from racksack_agent.supervisor.checkpoints.chosen import Chosen, Incomplete, check_sums, choose
from racksack_agent.supervisor.end import End

Order = Dict[str, Any]
Saved = Dict[str, Any]

_LOOK_S = 0.1
_AGAIN_S = 1.0  # after something could not be taken
_HURRY_S = 1.0
_COST = 20.0  # marks are heeded so that copying takes a twentieth of the time at most
_LIVES_ON_S = 0.05
_PROBLEM_S = 3.0  # what stands in the way for longer is told
_PROBLEM_CHARS_MAX = 300


class Processes:
    """What the keeper asks about the program."""

    def __init__(self, all_of_them: Callable[[], List[int]], is_alive: Callable[[], bool]) -> None:
        self.all = all_of_them
        self.is_alive = is_alive


class Keeper:
    """The checkpoints of one attempt. Made and closed by the supervisor's thread, which alone calls `look`."""

    def __init__(
        self, folder: AttemptFolder, order: Order, program: Processes, publish: Callable[[Saved], None]
    ) -> None:
        self._folder = folder
        self._wanted = order["checkpoint"]
        self._program = program
        self._publish = publish
        self._last = kept.newest(folder)
        self._uses_marks = self._last is not None and self._last["by_mark"]
        self._closing = threading.Event()
        self._hurries = False
        self._was_written = False  # when the end began, one of the files was being written
        self._next_s = time.monotonic() + self._wanted["every_s"]
        self._took_s, self._took_for_s = float("-inf"), 0.0
        self._problem, self._problem_since_s = "", 0.0
        self._told: Optional[Saved] = None
        self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
        self._thread.start()

    def look(self) -> None:
        """Tell what is new."""
        saved = self._saved()
        if saved is not None and saved != self._told:
            self._told = saved
            self._publish(saved)

    def hurry(self) -> None:
        """The program was warned: whatever it saves from now on may be its last."""
        self._hurries = True
        self._next_s = 0.0

    def end_begins(self) -> None:
        """The program is about to be asked to end: what it is writing now may stay as it is."""
        self.hurry()
        try:
            if not self._uses_marks:
                self._was_written = self._being_written(choose(self._folder.work, self._wanted["paths"])) is not None
        except (Incomplete, OSError):
            self._was_written = True

    def close(self, end: End) -> None:
        """No process is left: take what it saved at last, if that can be trusted, and tell it."""
        self._closing.set()
        self._thread.join()
        if end.outcome != "done":
            marks = self._marks()
            self._attempt(lambda: self._take_last(end, by_mark=bool(marks)))
        for mark in self._marks():
            records.remove_file(mark)
        kept.remove_unfinished(self._folder)
        self.look()

    # The thread

    def _run(self) -> None:
        while not self._closing.wait(_LOOK_S):
            marks = self._marks()
            if marks:
                self._heed(marks)
            elif not self._uses_marks and time.monotonic() >= self._next_s:
                self._take_by_clock()

    def _marks(self) -> List[str]:
        try:
            return [f"{self._folder.checkpoint_marks}/{name}" for name in os.listdir(self._folder.checkpoint_marks)]
        except FileNotFoundError:
            return []

    def _heed(self, marks: List[str]) -> None:
        """The program waits, so that it is short."""
        self._uses_marks = True
        since_s = time.monotonic() - self._took_s
        if self._hurries or since_s >= _COST * self._took_for_s:
            self._attempt(lambda: self._take(choose(self._folder.work, self._wanted["paths"]), by_mark=True))
        for mark in marks:
            records.remove_file(mark)

    def _take_by_clock(self) -> None:
        began_s = time.monotonic()
        self._next_s = float("inf")
        is_taken = self._attempt(self._take_unmarked)
        every_s = min(_HURRY_S, self._wanted["every_s"]) if self._hurries else self._wanted["every_s"]
        self._next_s = began_s + every_s if is_taken else time.monotonic() + min(_AGAIN_S, every_s)

    def _attempt(self, take: Callable[[], bool]) -> bool:
        """Whether something was taken. What stands in the way is told, and the program goes on."""
        try:
            is_taken = take()
            self._note_problem("")
        except Incomplete as problem:
            self._note_problem(str(problem))
            return False
        except OSError as problem:
            full = "the node's disk is full" if records.is_full(problem) else f"it could not be copied: {problem}"
            self._note_problem(full)
            return False
        except Exception as problem:  # noqa: BLE001 - the program, which may wait for its mark, must not wait for ever
            self._note_problem(f"the agent failed at it: {type(problem).__name__}: {problem}")
            return False
        return is_taken

    def _note_problem(self, sentence: str) -> None:
        if sentence and not self._problem:
            self._problem_since_s = time.monotonic()
        self._problem = sentence

    # What is taken

    def _take_unmarked(self) -> bool:
        chosen = choose(self._folder.work, self._wanted["paths"])
        if chosen.is_marked:
            return self._take(chosen)
        self._check_still(chosen)
        return self._take(chosen, then=lambda: self._check_lives_on(chosen))

    def _take_last(self, end: End, *, by_mark: bool) -> bool:
        chosen = choose(self._folder.work, self._wanted["paths"])
        ended_itself = end.exit_code is not None and end.signal is None
        was_asked = end.outcome in ("cancelled", "timeout", "lost") or end.exit_code in self._wanted["resubmit_on"]
        if by_mark or chosen.is_marked:
            return self._take(chosen, by_mark=by_mark)
        if self._uses_marks or not ended_itself or not was_asked or self._was_written:
            return False
        return self._take(chosen)

    def _check_still(self, chosen: Chosen) -> None:
        written = self._being_written(chosen)
        if written is not None:
            raise Incomplete(f"{written} is open for writing")

    def _check_lives_on(self, chosen: Chosen) -> None:
        self._check_still(chosen)
        if self._closing.wait(_LIVES_ON_S) or not self._program.is_alive():
            raise Incomplete("the program ended while its files were read")

    def _being_written(self, chosen: Chosen) -> Optional[str]:
        return writers.being_written(self._folder.work, chosen.paths, self._program.all())

    def _take(self, chosen: Chosen, *, by_mark: bool = False, then: Callable[[], None] = lambda: None) -> bool:
        """Copy, verify, keep. False when there is nothing, or nothing new. Raises Incomplete, OSError."""
        if not chosen.paths:
            raise Incomplete("nothing matches " + ", ".join(self._wanted["paths"]))
        work, last = self._folder.work, self._last
        began_s, at_s = time.monotonic(), time.time()
        versions = taking.versions_of(work, chosen.paths)
        if last is not None and versions == last["versions"]:
            return False
        taking.wait_for_the_tick(versions)
        if len(versions) == 1:
            versions = taking.versions_of(work, chosen.paths)
        unfinished = kept.clear_unfinished(self._folder)
        earlier, root = ({}, "") if last is None else (last["versions"], kept.path_of(self._folder, last["number"]))
        taken = taking.take(work, versions, unfinished, earlier, root, self._check_open)
        check_sums(unfinished, chosen.sums)
        then()
        if len(versions) > 1 and choose(work, self._wanted["paths"]).paths != chosen.paths:
            raise Incomplete("files came or went while they were read")
        found, _ = content.digest_and_size(unfinished)
        self._keep(unfinished, found, taken, at_s, by_mark=by_mark or (chosen.is_marked and self._uses_marks))
        self._took_s = time.monotonic()
        self._took_for_s = self._took_s - began_s
        return True

    def _check_open(self) -> None:
        """While the thread copies, the end of the program ends that."""
        if self._closing.is_set() and threading.current_thread() is self._thread:
            raise Incomplete("the program ended while its files were read")

    def _keep(self, unfinished: str, found: str, taken: taking.Taken, at_s: float, *, by_mark: bool) -> None:
        record = {
            "number": (self._last["number"] if self._last is not None else 0) + 1,
            "digest": found,
            "files": taken.files,
            "bytes": taken.bytes,
            "taken_at_s": at_s,
            "by_mark": by_mark,
            "versions": taken.versions,
        }
        kept.add(self._folder, unfinished, record)
        self._last = record

    def _saved(self) -> Optional[Saved]:
        """What a report says of it; None when there is nothing to say."""
        lasts = time.monotonic() - self._problem_since_s > _PROBLEM_S
        last, problem = self._last, self._problem if lasts else ""
        if last is None and not problem:
            return None
        names = ("number", "digest", "files", "bytes", "taken_at_s")
        saved = {name: last[name] for name in names} if last is not None else {"number": 0}
        return {**saved, "hurries": self._hurries, "problem": problem[:_PROBLEM_CHARS_MAX]}
