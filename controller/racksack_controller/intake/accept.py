"""From a dropped job file to accepted jobs, or to a rejected file with the reason beside it.

Accepting is the transaction of docs/architecture.md: the jobs are in the store before the file leaves `jobs/`, and the
file's submission key makes sure that the same file, met again after a crash, is the same jobs.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from racksack_controller import accepted
from racksack_controller.config.config import Defaults
from racksack_controller.config.limits import Limits
from racksack_controller.config.partitions import Partition
from racksack_controller.config.secrets import JobSecret
from racksack_controller.core.advice import advise
from racksack_controller.core.events import RefusedError
from racksack_controller.core.rack.amounts import could_ever_hold
from racksack_controller.core.records import DataMount
from racksack_controller.core.state import Job
from racksack_controller.core.sweeps.ranges import Ranges
from racksack_controller.core.why import never, why_job
from racksack_controller.intake.adding import Adding, Origin, Waits, accepted_jobs, count_accepted
from racksack_controller.intake.data_sets import DataSets
from racksack_controller.intake.dependencies import Dependencies
from racksack_controller.intake.drop import Identity
from racksack_controller.intake.garbage import remove_tree
from racksack_controller.intake.ids import Ids
from racksack_controller.intake.ingest import IngestError, IngestPostponed
from racksack_controller.intake.journal import CRASHES_MAX, Journal
from racksack_controller.intake.needed_content import transfers_told, with_content
from racksack_controller.intake.partition_rules import SpecRefusedError, settled
from racksack_controller.intake.projects import Projects
from racksack_controller.intake.reading import OUR_FAULT, Reader, legible_key, with_read
from racksack_controller.intake.recurring import RecurrenceError, Recurring, next_after
from racksack_controller.intake.recurring_table import RecurringJob
from racksack_controller.intake.recurring_table import id_of_submission as recurring_of_submission
from racksack_controller.intake.spool import DroppedFile, discard, reject
from racksack_controller.loop import Loop
from racksack_controller.news import ChangeBus
from racksack_controller.store import Store, StoreError, save_fetched
from racksack_controller.sweeps.estimate import plan_sweep
from racksack_controller.sweeps.manager import Sweeps
from racksack_controller.sweeps.results.ledger import sweep_by_id, sweep_of_submission
from racksack_controller.sweeps.search.optuna_search import needs
from racksack_controller.sweeps.search.warm_start import WarmStartError
from racksack_controller.threads import Threads
from racksack_controller.turns import KeyedLocks, Turns
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.parse import JobFileError
from racksack_jobspecs.readers import shown
from racksack_jobspecs.spec import JobSpec
from racksack_jobspecs.states import FINAL, JobState
from racksack_jobspecs.yamltext import Problem

log = logging.getLogger("racksack.intake")

AT_ONCE = 16  # files that are taken in at the same time
OF_ONE = 4  # ... of one user
POSTPONE_S = 5.0
OUTCOMES_MAX = 10_000


class Content(NamedTuple):
    """What a job is made of."""

    digest: str  # of the project
    size_bytes: int  # of the project
    data: tuple[DataMount, ...]


class Intake:
    """Takes job files into the store."""

    def __init__(
        self,
        loop: Loop,
        store: Store,
        spool: Spool,
        projects: Projects,
        data_sets: DataSets,
        reader: Reader,
        news: ChangeBus,
        defaults: Defaults,
        ids: Ids,
        sweeps: Sweeps,
    ) -> None:
        self.data_sets = data_sets
        self._loop, self._store, self._spool, self._projects, self._news = loop, store, spool, projects, news
        self._reader = reader
        self.defaults = defaults
        self.partitions: Mapping[str, Partition] = {}
        self.sweeps = sweeps
        self._ids = ids
        self._limits = Limits()
        self._adding = Adding(loop, store, spool, ids.take)
        self.channels: frozenset[str] = frozenset()  # who can be told of the end of a sweep
        self.secrets: Mapping[str, JobSecret] = {}
        self._identities: set[Identity] = set()  # of the files that are being taken in
        self._outcomes: OrderedDict[str, dict[str, object]] = OrderedDict()  # the latest; the store has the others
        self._turns = Turns(AT_ONCE, OF_ONE)
        self._submissions = KeyedLocks()  # two files or posts of one submission are one job or sweep
        self._removing = Threads("remove", 2)
        self._suspects = asyncio.Lock()  # suspected files are taken in one at a time
        self._journal = Journal(spool.journal)
        self._dependencies = Dependencies(loop.state, store, self._adding)
        self.recurring = Recurring(store, self._submit_recurring, self._is_over)
        self._settled: asyncio.Queue[DroppedFile] = asyncio.Queue()  # accepted files that are to leave jobs/

    async def run(self) -> None:
        """Remove accepted files from `jobs/`, all that wait at once, until cancelled."""
        while True:
            files = [await self._settled.get()]
            while not self._settled.empty():
                files.append(self._settled.get_nowait())
            await asyncio.to_thread(_discard_all, files)

    def set_limits(self, limits: Limits) -> None:
        """What one user may have."""
        self._limits = self._projects.limits = limits

    def close(self) -> None:
        """The controller ends as it was asked to."""
        self._journal.close()
        for part in (self._adding, self._projects, self._removing):
            part.close()

    async def take(self, file: DroppedFile) -> bool:
        """Accept or reject one file. A passing fault (full disk, store) leaves it where it is: False, after a pause.

        Whatever nobody foresaw in taking it in sets it aside, and everybody else's files go on.
        """
        if file.identity in self._identities:
            return True
        self._identities.add(file.identity)
        file = replace(file, submission=legible_key(file.text) or file.submission)
        key, crashes = file.identity.key, self._journal.crashes(file.identity.key)
        is_settled = True
        try:
            if crashes >= CRASHES_MAX:
                is_settled = await self._reject(file, [Problem(0, "", _CRASHED)])
            elif crashes:
                async with self._suspects:
                    is_settled = await self._take_noted(file)
            else:
                is_settled = await self._take_noted(file)
            self._journal.end(key)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.exception("file=%s owner=%s cannot be accepted", file.path.name, file.owner)
            is_settled = await self._reject(
                file, [Problem(0, "", f"the controller cannot accept it ({_named(error)}); {OUR_FAULT}")]
            )
            self._journal.end(key)
        finally:
            self._identities.discard(file.identity)
        return is_settled

    async def _take_noted(self, file: DroppedFile) -> bool:
        """Take one file in. What is wrong with it rejects it; False: try again."""
        try:
            if not file.problems:
                file = with_read(file, await self._reader.read(file.owner, file.text))
            async with self._submissions.alone_with(_key(file.owner, file.submission)), self._turns.of(file.owner):
                await self._take(file)
        except JobFileError as error:
            return await self._reject(file, error.problems)
        except IngestError as error:
            return await self._reject(file, [Problem(0, "project", str(error))])
        except IngestPostponed as error:
            log.warning("postponed file=%s reason=%s", file.path.name, error)
            self._news.nudge()
            await asyncio.sleep(POSTPONE_S)
            return False
        except (StoreError, OSError) as error:
            log.error("postponed file=%s reason=%s", file.path.name, error)
            await asyncio.sleep(POSTPONE_S)
            return False
        return True

    async def _take(self, file: DroppedFile) -> None:
        key = _key(file.owner, file.submission)
        known = self._known(key)
        if known is None:
            with self._journal.working_on(file.identity.key):
                spec = self._settled_spec(file.checked(), file.owner)
                self._refuse_impossible(spec)
                self._refuse_beyond_limits(spec, file.owner, key)
            waits = await self._dependencies.resolve(spec, file.owner)
            content = await self._content(spec, file.owner, file.owner_uid)
            if spec.every is not None:
                known = await self._take_recurring(replace(spec, submission=key), file.owner, content)
            elif spec.sweep is not None:
                known = await self._take_sweep(replace(spec, submission=key), file.owner, content, waits)
            else:
                origin = Origin(file.owner, content.digest, content.data, waits, content.size_bytes)
                known = {"jobs": await self._adding.add(replace(spec, submission=key), origin)}
            log.info("accepted file=%s owner=%s %s", file.path.name, file.owner, _accepted(known))
        self._tell(key, known)
        self._settled.put_nowait(file)

    async def _content(self, spec: JobSpec, owner: str, owner_uid: int) -> Content:
        """The project and the data sets of a job. Raises IngestError, IngestPostponed, StoreError."""
        digest = await self._projects.take(spec, owner, owner_uid)
        size_bytes = await self._projects.size_of(digest)
        return Content(digest, size_bytes, await self.data_sets.take(spec.data, owner, owner_uid))

    def _known(self, submission: str) -> dict[str, object] | None:
        """The outcome of a submission that was accepted before."""
        found = self._store.look(lambda connection: accepted_jobs(connection, submission))
        if found:
            return {"jobs": found}
        sweep = self._store.look(lambda connection: sweep_of_submission(connection, submission))
        if sweep is not None:
            return {"sweep": sweep, "jobs": []}
        recurring = self._store.look(lambda connection: recurring_of_submission(connection, submission))
        return None if recurring is None else {"recurring": recurring, "jobs": []}

    async def _take_recurring(self, spec: JobSpec, owner: str, content: Content) -> dict[str, object]:
        try:
            return {"recurring": await self.recurring.add(spec, owner, content.digest, content.data), "jobs": []}
        except RecurrenceError as error:
            raise JobFileError([Problem(0, "every", str(error))], spec.submission) from None

    async def _submit_recurring(self, one: RecurringJob, spec: JobSpec) -> tuple[int, ...]:
        """Take in one run of a recurring job, once. Raises JobFileError, IngestError, StoreError, OSError."""
        async with self._submissions.alone_with(spec.submission), self._turns.of(one.owner):
            known = self._known(spec.submission)
            if known is None:
                spec = replace(self._settled_spec(spec, one.owner), submission=spec.submission)
                self._refuse_impossible(spec)
                self._refuse_beyond_limits(spec, one.owner, spec.submission)
                waits = await self._dependencies.resolve(spec, one.owner)
                await asyncio.to_thread(self._projects.keep, one.snapshot)
                content = Content(one.snapshot, await self._projects.size_of(one.snapshot), one.data)
                if spec.sweep is not None:
                    known = await self._take_sweep(spec, one.owner, content, waits)
                else:
                    origin = Origin(one.owner, content.digest, content.data, waits, content.size_bytes)
                    known = {"jobs": await self._adding.add(spec, origin)}
        sweep = known.get("sweep")
        jobs = known["jobs"]
        assert isinstance(jobs, list)  # noqa: S101 - made above
        return (sweep,) if isinstance(sweep, int) else tuple(jobs)

    def _is_over(self, number: int) -> bool:
        """Whether a job or sweep has ended; one that nobody knows any more has."""
        job = self._loop.state.jobs.get(number)
        return (job is None or job.state in FINAL) and number not in self.sweeps.active

    async def _take_sweep(self, spec: JobSpec, owner: str, content: Content, waits: Waits) -> dict[str, object]:
        assert spec.sweep is not None  # noqa: S101 - the caller looked
        try:
            points = await self._reader.points(owner, spec.sweep)
        except JobFileError as error:
            raise JobFileError(error.problems, spec.submission) from None
        if not points:
            raise JobFileError([Problem(0, "sweep.where", "excludes every combination; loosen it")], spec.submission)
        try:
            number = await self.sweeps.accept(spec, owner, content.digest, waits.all, points, content.data)
        except WarmStartError as error:
            raise JobFileError([Problem(0, "sweep.search.warm_start", str(error))], spec.submission) from None
        await asyncio.to_thread(self._note_sweep, number, points)
        return {"sweep": number, "jobs": []}

    def _note_sweep(self, number: int, points: Ranges) -> None:
        """Have it in the spool too, in case the store is lost. Without that it runs all the same."""
        found = self._store.look(lambda connection: sweep_by_id(connection, number))
        try:
            if found is not None:
                accepted.note_sweep(self._spool, found[0], points.pairs())
        except OSError as error:
            log.warning("sweep=%s could not be recorded in projects/: %s", number, error)

    async def take_sweep(self, text: str, owner: str, owner_uid: int) -> int:
        """Take a sweep that came over HTTP as a job file's text; its id. The same submission twice is one sweep.

        Raises JobFileError, IngestError, IngestPostponed, StoreError.
        """
        spec = await self._reader.spec(owner, text)
        if spec.sweep is None:
            raise JobFileError([Problem(0, "sweep", "is missing; a job without it is not a sweep")])
        key = _key(owner, spec.submission or f"http-{uuid.uuid4().hex}")
        async with self._submissions.alone_with(key), self._turns.of(owner):
            known = self._known(key)
            if known is None:
                waits = await self._dependencies.resolve(spec, owner)
                self._refuse_impossible(spec)
                self._refuse_beyond_limits(spec, owner, key)
                content = await self._content(spec, owner, owner_uid)
                known = await self._take_sweep(replace(spec, submission=key), owner, content, waits)
        if "sweep" not in known:
            raise JobFileError([Problem(0, "submission", "belongs to a job which is not a sweep")])
        return int(str(known["sweep"]))

    async def take_job(self, text: str, owner: str, owner_uid: int) -> list[int]:
        """Take a job that came over HTTP as a job file's text; the ids of its jobs. Raises as `take_sweep`."""
        spec = await self._reader.spec(owner, text)
        if spec.sweep is not None:
            raise JobFileError([Problem(0, "sweep", "is a key of sweeps, and this is a job file")])
        key = _key(owner, spec.submission or f"http-{uuid.uuid4().hex}")
        async with self._submissions.alone_with(key), self._turns.of(owner):
            spec = self._settled_spec(spec, owner)
            self._refuse_impossible(spec)
            self._refuse_beyond_limits(spec, owner, key)
            waits = await self._dependencies.resolve(spec, owner)
            content = await self._content(spec, owner, owner_uid)
            origin = Origin(owner, content.digest, content.data, waits, content.size_bytes)
            return await self._adding.add(replace(spec, submission=key), origin)

    def _settled_spec(self, spec: JobSpec, owner: str) -> JobSpec:
        """With what it leaves to the configuration; JobFileError when that does not allow it."""
        try:
            return settled(self._where_its_data_is(spec), owner, self.partitions, self.defaults, self.secrets)
        except SpecRefusedError as error:
            raise JobFileError([Problem(0, error.key, str(error))], spec.submission) from None

    def _where_its_data_is(self, spec: JobSpec) -> JobSpec:
        """On nodes that have what it names and what lies on some nodes alone. Raises SpecRefusedError."""
        for nodes in self.data_sets.nodes_for(spec.data):
            both = tuple(node for node in nodes if not spec.nodes or node in spec.nodes)
            if not both:
                raise SpecRefusedError("data", f"it is only on {', '.join(nodes)}, where this job may not run")
            spec = replace(spec, nodes=both)
        return spec

    def _refuse_impossible(self, spec: JobSpec) -> None:
        sentence = self._impossible(spec)
        if sentence is not None:
            raise JobFileError([Problem(0, "", f"it can never run: {sentence}")], spec.submission)

    def _refuse_beyond_limits(self, spec: JobSpec, owner: str, key: str) -> None:
        """A user may have so much at a time; what is there of this submission already counts once.

        Raises JobFileError.
        """
        most, what = (self._limits.sweeps, "sweeps") if spec.sweep is not None else (self._limits.jobs, "jobs")
        if spec.sweep is not None:
            has, wanted = self.sweeps.unfinished_of(owner), min(spec.sweep.weight, most)
        else:
            has, wanted = self._loop.state.unfinished.get(owner, 0), len(spec.array.indices) if spec.array else 1
            wanted -= self._store.look(lambda connection: count_accepted(connection, key)) if spec.array else 0
        if has + wanted > most:
            sentence = (
                f"{owner} has {has} unfinished {what}, and {wanted} more would be above the {most} that one user may "
                f"have here (limits: {what}); submit again when some have ended"
            )
            raise JobFileError([Problem(0, "array" if spec.array else "", sentence)], spec.submission)

    def _impossible(self, spec: JobSpec) -> str | None:
        """Why a job could never run here, or None."""
        missing = self._unknown_channel("notify", [word.partition(":")[0] for word in spec.notify])
        if missing is None and spec.sweep is not None:
            missing = self._unknown_channel("sweep.notify", spec.sweep.notify) or needs(spec.sweep)
        return missing or never(self._draft(spec), self._loop.state.nodes.values())

    def _unknown_channel(self, key: str, names: Sequence[str]) -> str | None:
        unknown = [name for name in names if name not in self.channels]
        if not unknown:
            return None
        known = ", ".join(sorted(self.channels)) or "none"
        return f"{key} names {unknown[0]}, and `notify` of racksack.yaml has {known}"

    def _draft(self, spec: JobSpec, owner: str = "", now: float = 0.0) -> Job:
        return Job(id=0, owner=owner, spec=spec, snapshot="", submitted_at_s=now)

    async def _reject(self, file: DroppedFile, problems: list[Problem] | tuple[Problem, ...]) -> bool:
        """Set a file aside and say why. False, after a pause: it could not be moved, as on a full disk."""
        sentence = "; ".join(str(problem) for problem in problems)
        log.warning("rejected file=%s owner=%s reason=%s", file.path.name, file.owner, sentence)
        outcome: dict[str, object] = {
            "error": sentence,
            "problems": [{"line": p.line, "path": p.path, "sentence": p.sentence} for p in problems],
            "never": any("it can never run" in p.sentence for p in problems),
        }
        self._tell(_key(file.owner, file.submission), outcome)
        try:
            await asyncio.to_thread(reject, self._spool, file, problems)
        except OSError as error:
            log.error("the rejected file %s could not be moved away: %s", file.path, error)
            await asyncio.sleep(POSTPONE_S)
            return False
        return True

    def _tell(self, key: str, outcome: dict[str, object]) -> None:
        """Answer those who ask for a submission."""
        self._outcomes[key] = outcome
        if len(self._outcomes) > OUTCOMES_MAX:
            self._outcomes.popitem(last=False)
        self._news.nudge()

    async def outcome(self, owner: str, submission: str, wait_s: float) -> dict[str, object] | None:
        """What became of this user's submission: its jobs or its error; None when it was not met within `wait_s`."""
        key = _key(owner, submission)
        found: dict[str, object] | None = self._outcomes.get(key)
        if found is None:
            found = self._known(key)
        if found is None and wait_s > 0:
            found = await self._news.until(lambda: self._outcomes.get(key), wait_s)
        return found

    async def plan(self, text: str, owner: str, now: float, sends_bytes: int = 0) -> dict[str, object]:
        """What would become of a job file of this owner, without taking it; for a sweep also how many points it would
        be, on how many workers, and for how long. `sends_bytes`: how large its project is. Raises IngestPostponed.
        """
        try:
            spec = await self._reader.spec(owner, text)
        except JobFileError as error:
            return {"problems": _told(error.problems), "never": None, "fits": [], "waits": "", "advice": []}
        answer = self._plan_job(spec, owner, now)
        try:
            waits = await self._dependencies.said(spec, owner)
        except JobFileError as error:
            return answer | {"problems": _told(error.problems)}
        answer["waits"] = "it is held; `racksack release` lets it start" if spec.hold else waits or answer["waits"]
        draft = await with_content(self._draft(spec, owner), self.data_sets, sends_bytes)
        answer["transfers"] = transfers_told(self._loop.state, draft, answer["fits"])
        if answer["never"] or spec.sweep is None:
            return answer
        try:
            points = await self._reader.points(owner, spec.sweep)
        except JobFileError as error:
            return answer | {"problems": _told(error.problems)}
        return answer | {"sweep": plan_sweep(self._store, self._loop.state, self._draft(spec, owner, now), points.size)}

    def _plan_job(self, spec: JobSpec, owner: str, now: float) -> dict[str, Any]:
        advice = advise(self._loop.state.history, owner, spec)
        try:
            if spec.every is not None:
                next_after(spec.every, now)
            spec = settled(self._where_its_data_is(spec), owner, self.partitions, self.defaults, self.secrets)
        except (SpecRefusedError, RecurrenceError) as error:
            return {"problems": [], "never": str(error), "fits": [], "waits": "", "advice": []}
        job, state = self._draft(spec, owner, now), self._loop.state
        fits = [node.name for node in state.nodes.values() if could_ever_hold(job, node)]
        sentence = self._impossible(spec)
        waits = "" if sentence else why_job(self._loop.reading(), job)
        return {"problems": [], "never": sentence, "fits": sorted(fits), "waits": waits, "advice": list(advice)}

    def may_refer(self, digest: str, owner: str) -> bool:
        """Whether this user may submit `snapshot:<digest>`."""
        return self._projects.may_refer(digest, owner)

    async def keep_project(self, job: Job) -> None:
        """Have the content of a finished job stay, since it is to run again. Raises IngestError when it is gone."""
        await asyncio.to_thread(self._projects.keep, job.snapshot)

    async def mark_fetched(self, job: Job, *, delete: bool) -> None:
        """The owner has the results; with `delete` the controller's copy goes, also when this is asked twice."""
        if not await self._store.write(lambda connection: save_fetched(connection, job)):
            raise RefusedError(f"job {job.id} is being run again; its results are incomplete")
        if delete:
            await self._removing.run(remove_tree, self._spool.returned(job.id))
            if job.state is JobState.DONE:  # else it may go on from there
                await self._removing.run(remove_tree, self._spool.checkpoints / str(job.id))


def _told(problems: Sequence[Problem]) -> list[dict[str, object]]:
    return [{"line": p.line, "path": p.path, "sentence": p.sentence} for p in problems]


def _discard_all(files: list[DroppedFile]) -> None:
    """Runs in a thread. A file that stays is met again, and its key says that it was accepted."""
    for file in files:
        try:
            discard(file)
        except OSError as error:
            log.error("the accepted file %s could not be removed: %s", file.path, error)


_CRASHED = (
    f"the controller ended {CRASHES_MAX} times while it took this file in, so it is set aside; "
    "if you think that it was not the file, put it into jobs/ again"
)


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {shown(str(error))}" if str(error) else type(error).__name__


def _key(owner: str, submission: str) -> str:
    """Users choose the keys of their submissions; the same key of another user is another submission."""
    return f"{owner}:{submission}"


def _accepted(known: Mapping[str, object]) -> str:
    ids = known["jobs"]
    if "recurring" in known:
        return f"recurring={known['recurring']}"
    if "sweep" in known or not isinstance(ids, list):
        return f"sweep={known.get('sweep')}"
    return f"jobs={ids[0]}-{ids[-1]}" if len(ids) > 1 else f"jobs={ids[0]}"
