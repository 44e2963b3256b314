"""The job spec: everything a job file says, checked and in base units (bytes, seconds).

`parse` makes a spec from a job file; `fields` is the one table of the file's keys. The records are left out of garbage
collection (`gc=False`; they hold no circles): with 100,000 queued jobs each pass of the collector would take 0.1 s.
"""

from __future__ import annotations

import msgspec

from racksack_jobspecs.recurrence import Recurrence
from racksack_jobspecs.resources import ResourceRequest
from racksack_jobspecs.sweep.spec import SweepSpec

DEFAULT_TIME_LIMIT_S: float | None = None  # the controller's `defaults: time_limit` decides
DEFAULT_MAX_OUTPUT_BYTES = 10 * 1024**3
CHECKPOINT_EVERY_S = 600.0


class Environment(msgspec.Struct, frozen=True, gc=False):
    """How the job's venv is made."""

    kind: str = "auto"  # auto | requirements | pyproject | lock | none
    file: str | None = None  # inside the project; None: the usual name of that kind
    python: str | None = None  # "3.11"; None: the node's
    extras: tuple[str, ...] = ()  # of the pyproject.toml
    groups: tuple[str, ...] = ()  # dependency groups of the pyproject.toml
    index_url: str = ""  # in place of the node's package index; `${NAME}` in it is a secret; "": the node's
    extra_index_urls: tuple[str, ...] = ()  # beside it


class Dependency(msgspec.Struct, frozen=True, gc=False):
    """This job starts only after another one."""

    job: str  # the id of a job, array or sweep, `15[3]`, or a name: the owner's latest of it; "" with singleton
    condition: str = "ok"  # ok: ended done | any: ended | notok: ended otherwise | corr: `ok`, element by element
    # | singleton: all earlier ones of the same owner and name have ended


class DataUse(msgspec.Struct, frozen=True, gc=False):
    """A data set that a job reads."""

    name: str
    version: int | None = None  # None: the newest
    content: str = ""  # an upload or snapshot:DIGEST that becomes the newest version first; "": one that is there
    digest: str = ""  # that an upload must have
    path: str = ""  # where it appears in the project, beside $RACKSACK_DATA_DIR/NAME; "": nowhere


class ArraySpec(msgspec.Struct, frozen=True, gc=False):
    """A job array: one spec, one job an index."""

    indices: tuple[int, ...]
    max_running: int | None = None  # `%N`


class JobSpec(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a user submitted."""

    name: str
    project: str  # `<upload>` in incoming/, or `snapshot:<digest>` of content that the owner uploaded before
    entrypoint: str  # path inside the project
    digest: str = ""  # what the content of an upload must be; "": whatever arrives
    args: tuple[str, ...] = ()
    resources: ResourceRequest = ResourceRequest()
    time_limit_s: float | None = DEFAULT_TIME_LIMIT_S
    env: dict[str, str] = {}
    secrets: tuple[str, ...] = ()  # names of the controller's secrets that it finds as environment variables
    environment: Environment = Environment()
    outputs: tuple[str, ...] = ()  # globs relative to the project, beside everything in $RACKSACK_RETURN_DIR
    new_files: str = "small"  # small | all | none: what of the working folder's new files comes back by itself
    max_output_bytes: int = DEFAULT_MAX_OUTPUT_BYTES
    retries: int = 0
    retry_on: tuple[str, ...] = ("exit", "oom", "timeout")  # what `retries` covers, `exit:29` being one exit code
    no_retry_on: tuple[str, ...] = ()  # ... and what of that it does not
    retry_delay_s: float = 1.0  # before the first retry; doubled each time
    priority: int = 0  # -1000..1000, higher first
    after: tuple[Dependency, ...] = ()
    oom_factor: float = 1.0  # after running out of memory it is tried again with so many times as much
    partition: str = ""  # the named set of nodes that it runs in; "": the default one, or all nodes
    labels: tuple[str, ...] = ()  # labels that the node must have
    nodes: tuple[str, ...] = ()  # only these nodes; empty: any
    exclude: tuple[str, ...] = ()  # none of these nodes
    array: ArraySpec | None = None
    data: tuple[DataUse, ...] = ()
    shared: tuple[str, ...] = ()  # paths and patterns of the project that all its jobs on a node share, read-only
    stage_in_ram: tuple[str, ...] = ()  # paths of the project that are copied to RAM on the node
    hold: bool = False
    begin_at_s: float | None = None  # Unix time before which it does not start
    no_wake: bool = False  # do not switch a node on for it
    gang: int = 1  # ranks that start together, each on a node of its own and each holding `resources`
    deadline_at_s: float | None = None  # Unix time by which it should have ended; moves it ahead, promises nothing
    preemptible: bool = False  # may be ended and queued again for a job of higher priority, where that is switched on
    grace_s: float | None = None  # between the request to end and the kill; None: the controller's default
    warn_s: float = 0.0  # so long before its time is over it is told; 0: it is not
    warn_signal: str = "USR1"
    slurm_env: bool = False  # it finds the usual SLURM_* variables, too
    every: Recurrence | None = None  # of a recurring job: when a job of this spec is submitted
    notify: tuple[str, ...] = ()  # channels that are told of its end: `NAME`, or `NAME:failed`
    resubmit_on: tuple[int, ...] = ()  # exit codes that mean: run me again, I have saved
    checkpoint: tuple[str, ...] = ()  # what it saves to go on from: folders and patterns of its working directory
    checkpoint_every_s: float = CHECKPOINT_EVERY_S  # how often that is brought to the controller
    interactive: bool = False  # its standard input is the terminal that `attach` shows
    submission: str = ""  # chosen by the writer of the file; the same one twice is one job
    sweep: SweepSpec | None = None  # many points of one function or program, in place of the entrypoint's one run
    runner_of: int | None = None  # set by the controller alone: this job computes points of that sweep
