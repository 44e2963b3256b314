"""The names of everything in an agent's home, and nothing about what is done with it."""

from __future__ import annotations

import os


class Home:
    """The folders of one agent home."""

    __slots__ = ("root",)

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(os.path.expanduser(root))

    @property
    def attempts(self) -> str:
        """One folder per attempt that is on this node."""
        return self.root + "/attempts"

    @property
    def snapshots(self) -> str:
        """Immutable project content, a folder per digest."""
        return self.root + "/snapshots"

    @property
    def incoming(self) -> str:
        """Where rsync brings content."""
        return self.root + "/incoming"

    @property
    def run(self) -> str:
        """One named pipe per living `serve`; supervisors write the names of attempts that changed into them."""
        return self.root + "/run"

    @property
    def bases(self) -> str:
        """Empty venvs, one per Python, that uv installs on behalf of (see `environment`)."""
        return self.root + "/bases"

    @property
    def cache(self) -> str:
        """`uv/` when this home has a cache of its own; `resolved/`: requirements that were installed lately."""
        return self.root + "/cache"

    @property
    def venvs(self) -> str:
        """Venvs that jobs left unchanged, for the next one that asks for the same; see `supervisor.venv_reuse`."""
        return self.root + "/venvs"

    @property
    def kept(self) -> str:
        """What attempts that were removed left here, a folder and a record for each."""
        return self.root + "/kept"

    def attempt(self, name: str) -> AttemptFolder:
        """The folder of one attempt, whether or not it exists."""
        return AttemptFolder(self.attempts + "/" + name)

    def make(self) -> None:
        """Create what is missing. Raises OSError when the home cannot be written."""
        os.makedirs(self.root, mode=0o700, exist_ok=True)
        for folder in (
            self.attempts,
            self.snapshots,
            self.incoming,
            self.run,
            self.bases,
            self.kept,
            self.venvs,
            self.cache + "/resolved",
        ):
            os.makedirs(folder, exist_ok=True)


class AttemptFolder:
    """The files of one attempt."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path

    @property
    def name(self) -> str:
        """`<job>.<number>`, of a rank of a gang `<job>.<number>@<rank>`."""
        return os.path.basename(self.path)

    def exists(self) -> bool:
        """Whether the attempt is on this node."""
        return os.path.exists(self.path)

    @property
    def home(self) -> Home:
        """The home that this attempt is in."""
        return Home(os.path.dirname(os.path.dirname(self.path)))

    @property
    def launch(self) -> str:
        """The order as received, with what `serve` decided (cores, session)."""
        return self.path + "/launch.json"

    @property
    def lock(self) -> str:
        """Held (flock) by the supervisor while it lives; holds its process id as text."""
        return self.path + "/lock"

    @property
    def pane(self) -> str:
        """A named pipe into which nobody writes: the program in the attempt's pane waits at it."""
        return self.path + "/pane"

    @property
    def state(self) -> str:
        """The latest report before the end."""
        return self.path + "/state.json"

    @property
    def exit(self) -> str:
        """The final report, written last."""
        return self.path + "/exit.json"

    @property
    def stop(self) -> str:
        """A request to end: reason, grace and first signal."""
        return self.path + "/stop.json"

    @property
    def job(self) -> str:
        """The program that was started, and the process that waits for it; see `supervisor.reaper`."""
        return self.path + "/job.json"

    @property
    def status(self) -> str:
        """How the program ended, as the process that waited for it found out."""
        return self.path + "/status.json"

    @property
    def ending(self) -> str:
        """Why a supervisor has begun to end the program, for the one that may have to finish that."""
        return self.path + "/ending.json"

    @property
    def takeovers(self) -> str:
        """A byte for each supervisor that took over from one that was killed."""
        return self.path + "/takeovers"

    @property
    def go(self) -> str:
        """There once a rank that is prepared may start."""
        return self.path + "/go"

    @property
    def reserve(self) -> str:
        """Space that is given back on a full disk so that the exit record can be written."""
        return self.path + "/reserve"

    @property
    def data(self) -> str:
        """$RACKSACK_DATA_DIR: a link for each data set."""
        return self.path + "/data"

    @property
    def checkpoints(self) -> str:
        """What the program saved to go on from; see `supervisor.checkpoints.kept`."""
        return self.path + "/checkpoints"

    @property
    def checkpoint_marks(self) -> str:
        """A file for each mark of the program that its checkpoint is complete, until it is heeded."""
        return self.path + "/marks"

    @property
    def helpers(self) -> str:
        """Programs for the job, see `supervisor.checkpoints.helper`."""
        return self.path + "/helpers"

    @property
    def work(self) -> str:
        """The job's writable copy of the project."""
        return self.path + "/work"

    @property
    def venv(self) -> str:
        """The job's own venv."""
        return self.path + "/venv"

    @property
    def tmp(self) -> str:
        """The job's TMPDIR."""
        return self.path + "/tmp"  # noqa: S108

    @property
    def out(self) -> str:
        """The return folder."""
        return self.path + "/out"

    @property
    def logs(self) -> str:
        """Second names of what the program prints, see `supervisor.captured`."""
        return self.path + "/logs"

    @property
    def left(self) -> str:
        """Outputs that did not come back; kept for a while, see `serve.kept`."""
        return self.path + "/left"

    @property
    def sweep(self) -> str:
        """Of a sweep's runner: chunks in, results out; see `sweep_runner.runner`."""
        return self.path + "/sweep"

    @property
    def sweep_plan(self) -> str:
        """What to run."""
        return self.sweep + "/plan.json"

    @property
    def sweep_inbox(self) -> str:
        """Chunks that the runner has not read yet."""
        return self.sweep + "/inbox"

    @property
    def sweep_control(self) -> str:
        """What is wanted of the runner."""
        return self.sweep + "/control.json"

    @property
    def sweep_poke(self) -> str:
        """A named pipe: whoever changed one of the above writes a byte."""
        return self.sweep + "/poke"

    @property
    def sweep_results(self) -> str:
        """Frames, only ever appended to."""
        return self.sweep + "/results.bin"
