"""Functions on their way to a node, and results on their way back."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any

from racksack.client import Client
from racksack.errors import RacksackError, TransferError, UsageError
from racksack.fetching import Wish, fetch
from racksack.views import JobDetails

ENTRY = "remote_call.py"
RESULT = "result.pkl"

Call = tuple[Callable[..., Any], Sequence[Any], Mapping[str, Any]]


class RemoteError(RacksackError):
    """A job that ended without a result of its function; the sentence says how."""


class RemoteTraceback(Exception):  # noqa: N818 - the cause of what the function raised, as in concurrent.futures
    """Where a function failed on its node."""

    def __str__(self) -> str:
        """The traceback as it was printed there."""
        return f"\n{self.args[0]}"


def write_project(folder: Path, calls: Sequence[Call], packages: Sequence[str]) -> None:
    """Fill an empty folder with what a node needs to make these calls. Raises UsageError for what cannot be pickled."""
    try:
        import cloudpickle
    except ImportError:
        raise UsageError("racksack.Executor needs cloudpickle: pip install cloudpickle") from None
    source = resources.files("racksack.executor").joinpath(ENTRY).read_text("utf-8")
    (folder / ENTRY).write_text(source)
    (folder / "racksack_call.json").write_text(json.dumps({"python": list(sys.version_info[:2])}))
    package = Path(cloudpickle.__file__).parent
    shutil.copytree(package, folder / "cloudpickle", ignore=shutil.ignore_patterns("__pycache__"))
    if packages:
        (folder / "requirements.txt").write_text("".join(f"{package}\n" for package in packages))
    (folder / "calls").mkdir()
    for index, (function, args, kwargs) in enumerate(calls):
        try:
            with _by_value(cloudpickle, function):
                data = cloudpickle.dumps((function, tuple(args), dict(kwargs)))
        except Exception as error:
            name = getattr(function, "__name__", repr(function))
            raise UsageError(f"the call of {name} cannot be pickled: {error}") from error
        (folder / "calls" / f"{index}.pkl").write_bytes(data)


@contextmanager
def _by_value(cloudpickle: Any, function: object) -> Iterator[None]:  # noqa: ANN401 - it has no types
    """Let what is in the function's own module travel whole, unless the node can import it as an installed package."""
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    if module is None or module.__name__ == "__main__" or not _is_local(module):
        yield
        return
    cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def _is_local(module: ModuleType) -> bool:
    """Whether a module is a file of one's own: neither of Python nor of an installed package."""
    path = getattr(module, "__file__", None)
    if path is None:
        return False
    homes = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return not any(Path(path).resolve().is_relative_to(Path(home).resolve()) for home in homes)


def outcome_of(client: Client, job: JobDetails, into: Path) -> Any:  # noqa: ANN401 - whatever the function returned
    """What a job's function returned. Raises what it raised, RemoteError for a job that came to no result."""
    (result,) = fetch(client, [job], Wish(into, include=(RESULT,), existing="overwrite"))
    path = result.folder / RESULT
    if result.error is not None or not path.is_file():
        if job.state == "done":
            raise TransferError(f"job {job.id}: {result.error or 'its result did not arrive'}")
        reason = job.outcome_reason or job.state
        raise RemoteError(f"job {job.id} {job.state}: {reason}; see `racksack logs {job.id} --stderr`")
    outcome: dict[str, Any] = pickle.loads(path.read_bytes())  # noqa: S301 - of a job of one's own
    if "error" in outcome:
        raise outcome["error"] from RemoteTraceback(outcome["traceback"])
    return outcome["value"]
