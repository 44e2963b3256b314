"""The controller as a whole: builds the edge around the loop, runs it, and takes it down again.

Running jobs never notice: a start reads the store, connects to the nodes and goes on with what it finds there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from importlib.metadata import version

from aiohttp import web

from racksack_controller import returns
from racksack_controller.checks.configuration import Loaded
from racksack_controller.checks.doctor import Doctor
from racksack_controller.config.changes import BusyNodesError, ConfigChanges, ReloadRefusedError, config_changes
from racksack_controller.config.config import Config, ConfigError, NodeConfig
from racksack_controller.config.secrets import with_secrets
from racksack_controller.core import events as ev
from racksack_controller.core import state as core_state
from racksack_controller.effects.attempts import AttemptEffects
from racksack_controller.effects.connector import Connector
from racksack_controller.effects.power_nodes import PowerNodes, answers_of
from racksack_controller.energy.report import job_energy_view
from racksack_controller.housekeeping import Housekeeping
from racksack_controller.intake.accept import Intake
from racksack_controller.intake.data_sets import DataSets
from racksack_controller.intake.ids import Ids, highest_id
from racksack_controller.intake.projects import Projects
from racksack_controller.intake.reading import Reader
from racksack_controller.intake.spool import DroppedFile, SpoolLock, Watcher
from racksack_controller.leftovers import Leftovers
from racksack_controller.loop import Loop
from racksack_controller.news import ChangeBus
from racksack_controller.nodes import make_node
from racksack_controller.nodes.node import Node
from racksack_controller.nodes.settings import NodeSettings, SlurmSettings, SshSettings, at_home_of
from racksack_controller.notify.notifier import Notifier
from racksack_controller.package_index.server import PackageIndex, preferred_port, variables
from racksack_controller.sandbox.pool import Sandbox
from racksack_controller.sandbox.searches import Searches
from racksack_controller.store import Store, program_key, unfetched_before
from racksack_controller.sweeps.active import Active
from racksack_controller.sweeps.manager import Sweeps
from racksack_controller.sweeps.rate import Paces
from racksack_controller.sweeps.results.return_folder import finisher
from racksack_controller.threads import Threads
from racksack_controller.upkeep import Upkeep
from racksack_controller.web.connections import bounded
from racksack_controller.web.context import Context
from racksack_controller.web.doors import Names, names_of
from racksack_controller.web.privacy import Hidden
from racksack_controller.web.server import address_of, serve_tcp, serve_unix
from racksack_controller.web.sessions import Sessions
from racksack_controller.web.tokens import Tokens
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.resources import Inventory

log = logging.getLogger("racksack")

RETURNS_RETRY_S = 5.0  # a return folder that could not be made (a full disk) is tried again
RETURNS_AT_ONCE = 500
FILE_THREADS = 8  # read logs and remove folders on behalf of requests
BEGIN_AGAIN_FIRST_S = 1.0  # after a failure of what is to run all the time
BEGIN_AGAIN_MOST_S = 60.0


class App:
    """One running controller."""

    def __init__(self, config: Config, reread: Callable[[], Config] | None = None) -> None:
        """`reread` gives the configuration anew, or raises ConfigError; None where no file stands behind it."""
        self.config = self._at_start = config
        self._reread = reread
        self._reloading = asyncio.Lock()
        self.spool = Spool(config.spool)
        self.lock = SpoolLock(self.spool)
        self.store = Store(self.spool.database)
        self.state = self.store.load()
        self.loop = Loop(
            self.state,
            self.store,
            lost_after_s=config.defaults.lost_after_s,
            policy=config.scheduling,
            power_policy=config.power,
        )
        self.power = PowerNodes(self.loop, self.store)
        self.news = ChangeBus()
        self.nodes: dict[str, Node] = {}
        self.node_env: dict[str, dict[str, str]] = {}
        self.slurm_of: dict[str, SlurmSettings] = {}
        self.connectors: dict[str, Connector] = {}
        ids = Ids(max(self.store.last_job_id(), highest_id(self.spool)))
        self.notifier = Notifier(self.store, self.state, config.notify)
        self.paces = Paces()
        self.sweeps = self._make_sweeps(ids)
        self.attempt_effects = AttemptEffects(
            self.loop,
            self.spool,
            self.nodes,
            self.node_env,
            self.slurm_of,
            self._energy_of,
            plan_of=self.sweeps.plan_of,
            before_collect=self.sweeps.before_collect,
        )
        projects = Projects(self.spool, self.store, is_shared=config.group is not None)
        self.sandbox = Sandbox()
        self.index = _index_of(config, self.spool)
        self.files = Threads("web-files", FILE_THREADS)
        self.data_sets = DataSets(self.spool, self.store, projects, config.data)
        self.intake = Intake(
            self.loop,
            self.store,
            self.spool,
            projects,
            self.data_sets,
            Reader(self.sandbox),
            self.news,
            config.defaults,
            ids,
            self.sweeps,
        )
        self.leftovers = Leftovers(self.spool, self.nodes)
        self.watcher = Watcher(self.spool, config.watch.settle_s, config.watch.rescan_s)
        self.hidden = Hidden()
        self.sessions = Sessions(self.store, config.group)
        self.started_at_s = time.time()
        self.doctor = Doctor(
            self.loop,
            self.spool,
            self.watcher,
            self.connectors,
            lambda: Loaded(at_start=config, now=self.config, reread=self._reread),
            self.started_at_s,
        )
        self._node_tasks: dict[str, asyncio.Task[None]] = {}
        self._configured: dict[str, NodeConfig] = {}
        self._runners: list[web.AppRunner] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def _make_sweeps(self, ids: Ids) -> Sweeps:
        """What keeps sweeps going; it says what changes and what ends."""
        self.searches = Searches()
        return Sweeps(
            self.loop,
            self.store,
            self.nodes,
            take_ids=ids.take,
            finisher=finisher(self.spool),
            make_drawer=self.searches.make,
            on_change=self._sweep_changed,
            on_end=self.notifier.ended,
        )

    async def run(self, ready: Callable[[str], None], *, idle_exit_s: float | None = None) -> None:
        """Until stopped; `ready` is called with the status page's address once everything answers.

        With `idle_exit_s` it ends by itself when nothing was to be done for so long.
        Raises OSError when an address cannot be listened on.
        """
        self.loop.attach(self.attempt_effects, self.power.effects)
        self.loop.listen(self.news.publish)
        self.loop.listen(self._finish_returns)
        self.loop.listen(self.notifier.changed)
        looping = asyncio.create_task(self.loop.run(), name="loop")
        try:
            address = await self._open(idle_exit_s)
            ready(address)
            await looping
        finally:
            await self._close(looping)

    def _sweep_changed(self, active: Active) -> None:
        self.paces.saw(active.id, active.progress, time.time())
        self.news.sweep_changed(active.id, str(active.progress.state))

    def stop(self) -> None:
        """End after the current step; jobs go on."""
        log.info("stopping; running jobs go on")
        self.loop.stop()

    def spawn_reload(self) -> None:
        """Reload without anybody waiting for the outcome: what SIGHUP does. Nodes with running jobs stay."""

        async def reload() -> None:
            try:
                await self.reload()
            except ReloadRefusedError as error:
                log.error("not reloaded: %s", error)

        self._spawn(reload())

    async def reload(self, lose_jobs: bool = False) -> ConfigChanges:
        """Read the configuration again and use what it says of the nodes; gives what differs.

        lose_jobs: whether nodes with running jobs may go. Raises ReloadRefusedError, and then nothing was changed.
        """
        if self._reread is None:
            raise ReloadRefusedError("this controller was started without a configuration file")
        async with self._reloading:
            try:
                config = await asyncio.to_thread(self._reread)
            except ConfigError as error:
                raise ReloadRefusedError("; ".join(map(str, error.problems))) from None
            changes = config_changes(self.config, config, self._at_start)
            busy = {name: len(self.state.on_node(name)) for name in changes.removed if self.state.on_node(name)}
            if busy and not lose_jobs:
                raise BusyNodesError(busy)
            await self._configure(config)
        log.info("reloaded nodes=%s", ",".join(sorted(self.nodes)))
        return changes

    async def _open(self, idle_exit_s: float | None) -> str:
        await asyncio.to_thread(returns.remove_stale, self.spool, self.state.attempts)
        self._spawn(self._return_the_finished())
        await self.power.open()
        if self.index is not None:
            await self.index.open()
        await self.sweeps.open()
        await self._configure(self.config)
        context = self._context()
        await self.sessions.open()
        names = names_of(self.config.web.hosts)
        listen_again = partial(self._listen_again, context, names)
        await listen_again()
        listen = self.config.web.listen
        if listen is not None:
            self._runners.append(await serve_tcp(context, listen.host, listen.port, names))
            context.web_address = self.notifier.web_address = address_of(self._runners[-1])
        await self.notifier.open(after_crash=self.lock.was_left)
        keeping = Housekeeping(
            self.spool, self.store, self.config.keep, idle_exit_s, self._is_idle, self.stop, self._known_programs
        )
        self._spawn(self.sandbox.warm_up())
        self._keep_running("spool upkeep", Upkeep(self.spool, self.config.group, listen_again).run)
        self._keep_running("the watcher of jobs/", lambda: self._watch(self.watcher))
        self._keep_running("the removal of accepted files", self.intake.run)
        self._keep_running("the sweeps", self.sweeps.run)
        self._keep_running("the recurring jobs", self.intake.recurring.run)
        self._keep_running("housekeeping", keeping.run)
        return context.web_address

    async def _listen_again(self, context: Context, names: Names) -> None:
        """Listen on the spool's socket; whoever is connected already stays. Raises OSError."""
        shared = self.config.group is not None
        self._runners.append(await serve_unix(context, self.spool.socket, names, group_access=shared))

    def _context(self) -> Context:
        return Context(
            loop=self.loop,
            store=self.store,
            spool=self.spool,
            news=self.news,
            nodes=self.nodes,
            connectors=self.connectors,
            power=self.power,
            sweeps=self.sweeps,
            leftovers=self.leftovers,
            paces=self.paces,
            intake=self.intake,
            operators=frozenset(self.config.operators),
            tokens=Tokens(self.config.web.token_file),
            sessions=self.sessions,
            hidden=self.hidden,
            web_address="",
            version=version("racksack"),
            started_at_s=self.started_at_s,
            doctor=self.doctor,
            sandbox=self.sandbox,
            files=self.files,
            stop=self.stop,
            reload=self.reload,
        )

    async def _watch(self, watcher: Watcher) -> None:
        async for file in watcher.files():
            self._spawn(self._take(watcher, file))

    async def _take(self, watcher: Watcher, file: DroppedFile) -> None:
        is_over = True
        try:
            is_over = await self.intake.take(file)
        finally:
            (watcher.settled if is_over else watcher.again)(file)

    def _known_programs(self) -> list[str]:
        return [program_key(key) for key in self.state.history.records]

    def _is_idle(self) -> bool:
        """Whether nothing is queued, running or asked for."""
        busy = self.state.jobs or self.state.attempts or self.news.has_readers or self.sweeps.is_busy
        return not busy

    async def _configure(self, config: Config) -> None:
        """Make the nodes those of the configuration."""
        for name in [name for name in self.nodes if name not in config.nodes]:
            await self._forget(name)
        for name in [name for name in self.state.nodes if name not in config.nodes and not self._is_gone(name)]:
            await self.loop.submit(ev.NodeRemoved(name))
        for name, wanted in config.nodes.items():
            if self._configured.get(name) != wanted:
                if name in self.nodes:
                    await self._forget(name)
                await self._try_to_add(name, config)
        await self.power.refresh(config.nodes)
        self.config = config
        self.hidden.hide(config.nodes)
        self.intake.partitions, self.intake.defaults = config.partitions, config.defaults
        self.intake.set_limits(config.limits)
        self.attempt_effects.keep = config.keep
        self.notifier.use(config.notify)
        self.intake.channels = frozenset(config.notify)
        self.intake.secrets = self.attempt_effects.secrets = config.secrets
        self.loop.policy = config.scheduling

    def _is_gone(self, name: str) -> bool:
        return not self.state.on_node(name) and self.state.nodes[name].is_removed

    async def _try_to_add(self, name: str, config: Config) -> None:
        """What fails with one node leaves the others alone; the next reload tries that one again."""
        try:
            await self._add(name, config)
        except Exception as error:
            log.exception("node %s could not be set up", name)
            sentence = (
                f"it could not be set up ({error!r}); see the log of the controller, then reload its configuration"
            )
            self.loop.post(ev.NodeDisconnected(name, sentence))

    async def _add(self, name: str, config: Config) -> None:
        wanted = config.nodes[name]
        record = core_state.Node(
            name=name,
            kind=wanted.kind,
            inventory=_known_inventory(wanted),
            reserve=wanted.reserve,
            max_jobs=wanted.max_jobs,
            partitions=wanted.partitions,
            labels=wanted.labels,
            address=wanted.address or _address_of(wanted.reach),
            overflow=wanted.overflow,
        )
        await self.loop.submit(ev.NodeConfigured(record))
        node = make_node(name, at_home_of(wanted.reach, self.store.spool_id), wanted.slurm)
        node.on_results = partial(self.sweeps.results_grew, name)
        offers = self._offer_index if self.index is not None and wanted.slurm is None else None
        connector = Connector(self.loop, node, wanted.complete, answers_of(wanted.reach), offers)
        self.nodes[name], self.connectors[name] = node, connector
        self.node_env[name] = wanted.env
        if wanted.slurm is not None:
            self.slurm_of[name] = wanted.slurm
        await self.power.add(name, config.nodes, connector)
        self._node_tasks[name] = asyncio.create_task(connector.run(), name=f"node {name}")
        self._configured[name] = wanted  # now all of it is there

    async def _offer_index(self, node: Node) -> None:
        """Let a node reach our package index, at the same port each time where it can. Raises NodeError."""
        assert self.index is not None  # noqa: S101 - asked for only then
        port = await node.share_port(self.index.port, preferred_port(self.store.spool_id))
        self.node_env[node.name] = {**variables(port), **self._configured[node.name].env}

    async def _forget(self, name: str) -> None:
        """Take out whatever there is of a node: all, or the part that an earlier failure left."""
        self._configured.pop(name, None)
        await self.power.forget(name)
        if (task := self._node_tasks.pop(name, None)) is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if (node := self.nodes.pop(name, None)) is not None:
            try:
                await node.close()
            except Exception:
                log.exception("the connection of node %s could not be closed", name)
        for kept in (self.connectors, self.node_env, self.slurm_of):
            kept.pop(name, None)
        self.loop.post(ev.NodeDisconnected(name, "its configuration changed"))

    def _finish_returns(self, changes: core_state.Changes) -> None:
        """A job that has ended has a return folder, also without results, which says how it ended."""
        outcomes = {one.key: one.ending.outcome for one in changes.attempts if one.ending is not None}
        ended = []
        for job in changes.jobs:
            is_placed = job.attempt_key in self.attempt_effects.placed
            self.attempt_effects.placed.discard(job.attempt_key)
            if job.ended_at_s is not None and not (is_placed and outcomes.get(job.attempt_key) is job.state):
                ended.append(job)
        if ended:
            self._spawn(self._ensure_returned(ended))

    async def _return_the_finished(self) -> None:
        """The same for all that ended before this start."""
        before = 2**62
        while jobs := await self.store.read(lambda connection: unfetched_before(connection, before, RETURNS_AT_ONCE)):  # noqa: B023
            await self._ensure_returned([job for job in jobs if job.id not in self.state.jobs])
            before = jobs[-1].id

    async def _ensure_returned(self, jobs: list[core_state.Job]) -> None:
        """Try until it is done, since the disk may be full; what is run again meanwhile is left alone."""
        failed = ""
        while jobs:
            try:
                await asyncio.to_thread(returns.ensure_returned, self.spool, jobs)
            except (OSError, returns.ReturnsError) as error:
                if str(error) != failed:
                    failed = str(error)
                    log.error("return folders could not be created; retrying every %.0f s: %s", RETURNS_RETRY_S, error)
                await asyncio.sleep(RETURNS_RETRY_S)
                jobs = [job for job in jobs if job.id not in self.state.jobs]
            else:
                return

    async def _energy_of(self, node: str, jobs: Sequence[int]) -> dict[int, dict[str, object]]:
        """What jobs used that have just ended on a node; those that were not metered are left out."""
        price = self.loop.power_policy.price_per_kwh
        used = await self.power.meter.settle(node, jobs)
        return {job: job_energy_view(energy, price) for job, energy in used.items()}

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        """Work for one input. What nobody foresaw in it ends it alone."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("handling one input failed", exc_info=task.exception())

    def _keep_running(self, what: str, begin: Callable[[], Coroutine[None, None, None]]) -> None:
        """Work for everybody, for as long as the controller runs: after a failure it begins again."""

        async def keep() -> None:
            delay_s = BEGIN_AGAIN_FIRST_S
            while True:
                began_s = time.monotonic()
                try:
                    return await begin()
                except Exception:
                    if time.monotonic() - began_s > BEGIN_AGAIN_MOST_S:
                        delay_s = BEGIN_AGAIN_FIRST_S
                    log.exception("%s failed; restarting it in %g s", what, delay_s)
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, BEGIN_AGAIN_MOST_S)

        self._spawn(keep())

    async def _close(self, looping: asyncio.Task[None]) -> None:
        self.loop.stop()
        for runner in self._runners:
            await runner.cleanup()
        for task in [*self._tasks, *self._node_tasks.values()]:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._node_tasks.values(), return_exceptions=True)
        await self.sandbox.close()
        self.files.close()
        self.intake.close()
        await self.doctor.close()
        await self.attempt_effects.close()
        if self.index is not None:
            await self.index.close()
        await self.leftovers.close()
        await self.sweeps.close()
        self.searches.close()
        await self.notifier.close()
        await self.power.close()
        await asyncio.gather(looping, *(node.close() for node in self.nodes.values()), return_exceptions=True)
        with contextlib.suppress(FileNotFoundError):
            self.spool.socket.unlink()
        self.store.close()
        self.lock.release()


def _index_of(config: Config, spool: Spool) -> PackageIndex | None:
    """The package index for nodes, if they are to have one."""
    wanted = config.environment
    if wanted.index != "controller":
        return None
    upstream = with_secrets(wanted.upstream, config.secrets)
    return PackageIndex(spool.package_index, upstream, wanted.cache_bytes, bounded)


def _known_inventory(wanted: NodeConfig) -> Inventory | None:
    """What is known of a node before it was ever seen: only if the configuration says all of it."""
    if wanted.cpus is None or wanted.ram_bytes is None:
        return None
    return wanted.complete(Inventory(cpus=0, ram_bytes=0, disk_bytes=2**62))


def _address_of(settings: NodeSettings) -> str:
    """By what name other nodes are likely to reach this one."""
    return settings.host if isinstance(settings, SshSettings) else socket.gethostname()
