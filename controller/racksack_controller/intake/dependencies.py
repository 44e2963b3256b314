"""From the words of `after` to what a job waits for: names become ids, arrays and elements are found.

What cannot be met is refused here already, with a sentence for its owner; but only the step that takes the job in
decides, since the other one may end meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence

from racksack_controller.core import events as ev
from racksack_controller.core.jobs.dependencies import begin, waits_sentence
from racksack_controller.core.records import Job, Wait
from racksack_controller.core.state import State
from racksack_controller.intake.adding import Adding, Waits, jobs_of_array
from racksack_controller.lookups import Lookups
from racksack_controller.store import NO_RUNNERS, Store, jobs_by_id, jobs_where
from racksack_controller.sweeps.results.ledger import sweep_by_id, sweeps_where
from racksack_jobspecs.dependency import SINGLETON, element_of
from racksack_jobspecs.parse import JobFileError
from racksack_jobspecs.spec import Dependency, JobSpec
from racksack_jobspecs.yamltext import Problem

WAITS_MAX = 1000  # of one job
WAITS_OF_ARRAY_MAX = 200_000  # of all elements of an array


class Dependencies:
    """Finds what job files name."""

    def __init__(self, state: State, store: Store, adding: Adding) -> None:
        self._state, self._store, self._adding = state, store, adding

    async def resolve(self, spec: JobSpec, owner: str) -> Waits:
        """Raises JobFileError with all that cannot be, and StoreError."""
        _check_number(spec)
        waits: list[Wait] = []
        paired: dict[int, list[Wait]] = {}
        problems = []
        for dependency in spec.after:
            try:
                if dependency.condition == "corr":
                    await self._pair(dependency, owner, spec, paired)
                elif dependency.condition == SINGLETON:
                    waits += await self._singleton(spec, owner)
                else:
                    target, whole = await self._find(dependency.job, owner)
                    waits.append(Wait(target, dependency.condition, whole))
            except ValueError as error:
                problems.append(Problem(0, "after", str(error)))
        found = Waits(tuple(dict.fromkeys(waits)), {index: tuple(pair) for index, pair in paired.items()})
        if not problems and (never := self._never(spec, owner, found)):
            problems.append(Problem(0, "after", never))
        if problems:
            raise JobFileError(problems, spec.submission)
        return found

    async def said(self, spec: JobSpec, owner: str) -> str:
        """What such a job would wait for now, in a sentence; empty when all of it is met. Raises as `resolve`."""
        judged = self._judged(spec, owner, await self.resolve(spec, owner))
        return waits_sentence(self._state, judged) if judged.waits_for else ""

    def _judged(self, spec: JobSpec, owner: str, waits: Waits) -> Job:
        draft = Job(id=0, owner=owner, spec=spec, snapshot="", submitted_at_s=0.0, after=waits.all)
        event = Lookups(self._state, self._store).inform(ev.JobAccepted(draft))
        return begin(self._state, draft, event.past) if isinstance(event, ev.JobAccepted) else draft

    def _never(self, spec: JobSpec, owner: str, waits: Waits) -> str:
        """Why this can never be met; empty where it may."""
        judged = self._judged(spec, owner, waits)
        return f"{judged.reason}; write afterany:ID to start all the same" if judged.unsatisfiable else ""

    async def _pair(self, dependency: Dependency, owner: str, spec: JobSpec, paired: dict[int, list[Wait]]) -> None:
        target, whole = await self._find(dependency.job, owner)
        if not whole:
            raise ValueError(f"{dependency.job} is no array, so aftercorr has no meaning; write afterok:{target}")
        first = await self._job(target)
        elements = await self._store.read(lambda connection: jobs_of_array(connection, first.spec.submission))
        for index in spec.array.indices if spec.array else ():
            if index not in elements:
                raise ValueError(f"array {target} has no element {index}; give both arrays the same indices")
            paired.setdefault(index, []).append(Wait(elements[index], "ok"))

    async def _singleton(self, spec: JobSpec, owner: str) -> list[Wait]:
        """Jobs are found in the step that takes this one in; sweeps, which the core does not know, here."""
        same = {
            job.array_id or job.id
            for job in self._state.jobs.values()
            if job.owner == owner and job.spec.name == spec.name and job.spec.runner_of is None
        }
        if len(same) > WAITS_MAX:
            raise ValueError(
                f"{len(same)} jobs called {spec.name} have not ended, and a singleton waits for {WAITS_MAX} at most"
            )
        condition = "owner = ? AND name = ? AND ended_at_s IS NULL"
        found = await self._store.read(lambda connection: sweeps_where(connection, condition, (owner, spec.name), -1))
        return [Wait(0, SINGLETON), *(Wait(sweep.id, "any") for sweep, _ in found)]

    async def _find(self, text: str, owner: str) -> tuple[int, bool]:
        """The id that is waited for, and whether it is a whole array. Raises ValueError with a sentence."""
        element = element_of(text)
        if element is not None:
            return await self._element(*element), False
        if text.isascii() and text.isdecimal():
            return await self._by_id(int(text))
        return await self._by_name(text, owner)

    async def _element(self, array: int, index: int) -> int:
        first = await self._job(array)
        if first.array_id is None:
            raise ValueError(f"job {array} is no array, so there is no {array}[{index}]; write {array}")
        elements = await self._store.read(lambda connection: jobs_of_array(connection, first.spec.submission))
        if index not in elements:
            raise ValueError(f"array {array} has no element {index}; it has {_span(sorted(elements))}")
        return elements[index]

    async def _by_id(self, number: int) -> tuple[int, bool]:
        found = await self._store.read(lambda connection: jobs_by_id(connection, [number]))
        if not found:
            if await self._store.read(lambda connection: sweep_by_id(connection, number)) is None:
                raise ValueError(f"there is no job {number}; `racksack status --all` lists yours")
            return number, False
        job = found[0]
        if job.spec.runner_of is not None:
            raise ValueError(f"{number} is a runner of sweep {job.spec.runner_of}; write {job.spec.runner_of}")
        if job.array_id is not None:
            await self._adding.whole(job.array_id)
        return number, job.array_id == number

    async def _by_name(self, name: str, owner: str) -> tuple[int, bool]:
        """The owner's latest job, array or sweep of this name."""
        values = (owner, name)
        jobs = await self._store.read(
            lambda connection: jobs_where(connection, f"owner = ? AND name = ? AND {NO_RUNNERS}", values, 1)
        )
        sweeps = await self._store.read(
            lambda connection: sweeps_where(connection, "owner = ? AND name = ?", values, 1)
        )
        if not jobs and not sweeps:
            raise ValueError(f"there is no job {name}; `racksack status --all` lists yours")
        if not jobs or (sweeps and sweeps[0][0].id > jobs[0].id):
            return sweeps[0][0].id, False
        if jobs[0].array_id is not None:
            await self._adding.whole(jobs[0].array_id)
        return jobs[0].array_id or jobs[0].id, jobs[0].array_id is not None

    async def _job(self, number: int) -> Job:
        await self._adding.whole(number)
        found = await self._store.read(lambda connection: jobs_by_id(connection, [number]))
        if not found:
            raise ValueError(f"there is no job {number}; `racksack status --all` lists yours")
        return found[0]


def _check_number(spec: JobSpec) -> None:
    """Each element of an array has all of its dependencies, and each end among them is judged for all elements.

    Raises JobFileError.
    """
    elements = len(spec.array.indices) if spec.array is not None else 1
    if len(spec.after) > WAITS_MAX or len(spec.after) * elements > WAITS_OF_ARRAY_MAX:
        has = f"has {len(spec.after)} dependencies" + (f" of {elements} elements each" if elements > 1 else "")
        most = f"{WAITS_MAX} are the most, and {WAITS_OF_ARRAY_MAX} of all elements of an array"
        raise JobFileError([Problem(0, "after", f"{has}; {most}; wait for an array instead")], spec.submission)


def _span(indices: Sequence[int]) -> str:
    """Which indices an array has, in a few characters."""
    if len(indices) == indices[-1] - indices[0] + 1:
        return f"{indices[0]}-{indices[-1]}"
    return ", ".join(map(str, indices[:5])) + (", ..." if len(indices) > 5 else "")
