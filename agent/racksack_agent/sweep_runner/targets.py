"""What a point is computed by: a Python function, or a program that is started for each point.

Runs in a worker, in the job's own Python. A target is called with the parameters of a point as keyword arguments and
returns its metrics; PointFailed says that the point failed, and how.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from typing import Any, Callable, Dict, List, Optional

from racksack_agent.sweep_runner.program_reports import ReportLines, followed

Plan = Dict[str, Any]
Target = Callable[..., Any]

_TAIL_BYTES = 256 * 1024
_SENTENCE_CHARS = 500


class TargetError(Exception):
    """The target cannot be used at all: no point can run. The message is a sentence."""


class PointFailed(Exception):  # noqa: N818 - reads as what happened
    """A program failed at a point."""

    def __init__(self, kind: str, sentence: str) -> None:
        super().__init__(sentence)
        self.kind = kind


def load(plan: Plan, extra: Dict[str, Any], scratch: str) -> Target:
    """The target of a plan. `extra`: arguments that every point gets. Raises TargetError."""
    target = plan["target"]
    if target["kind"] == "function":
        function = load_function(target["file"], target["name"])
        fixed = {**target.get("fixed", {}), **extra}
        return (lambda **values: function(**fixed, **values)) if fixed else function
    return Program(target, extra, scratch, plan["work"])


def load_function(file: str, name: str) -> Target:
    """A function of a file of the project, which stands in the current folder. Raises TargetError."""
    path = os.path.abspath(file)
    for folder in (os.getcwd(), os.path.dirname(path)):
        if folder in sys.path:
            sys.path.remove(folder)
        sys.path.insert(0, folder)
    module_name = os.path.splitext(os.path.basename(path))[0]
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None or not os.path.isfile(path):
        raise TargetError(f"the project has no Python file {file}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # so that its classes can be pickled, and its parts import it again
    try:
        spec.loader.exec_module(module)
    except BaseException as problem:
        raise TargetError(f"{file} could not be imported: {describe(problem)}") from problem
    function = getattr(module, name, None)
    if not callable(function):
        raise TargetError(f"{file} has no function {name}")
    return function  # type: ignore[no-any-return]


class Program:
    """A program, started once for each point."""

    def __init__(self, target: Dict[str, Any], extra: Dict[str, Any], scratch: str, work: str) -> None:
        self._argv: List[str] = list(target.get("argv") or [])
        self._is_script = target["kind"] == "script"  # the parameters say which and with what
        self._extra = extra
        self._folder = mirror(work, scratch)
        self._metrics = os.path.join(self._folder, "metrics.json")
        self._lines = os.path.join(self._folder, "metrics.jsonl")
        self._output = scratch + ".stdout"
        self._errors = scratch + ".stderr"
        self._env = {**os.environ, "RACKSACK_JOB_DIR": self._folder, "RACKSACK_METRICS": self._metrics}
        self._env["RACKSACK_REPORTS"] = self._lines

    def __call__(self, **values: object) -> Dict[str, Any]:
        """Run it to its end. Raises PointFailed, OSError; reporting.Stop when the sweep stops the point early."""
        for left in (self._metrics, self._lines):
            if os.path.lexists(left):
                os.unlink(left)
        argv = self._script(values) if self._is_script else fill(self._argv, {**values, **self._extra})
        argv = with_interpreter(argv, self._folder)
        with open(self._output, "wb") as output, open(self._errors, "wb") as errors:
            try:
                process = subprocess.Popen(
                    argv, cwd=self._folder, env=self._env, stdin=subprocess.DEVNULL, stdout=output, stderr=errors
                )
            except OSError as problem:
                raise PointFailed("error", f"{argv[0]} could not be started: {problem.strerror}") from problem
            code = followed(process, [ReportLines(self._output), ReportLines(self._lines)])
        output_tail, errors_tail = tail(self._output), tail(self._errors)
        show(1, output_tail)
        show(2, errors_tail)
        if code:
            raise PointFailed(*ending(code, errors_tail))
        return read_metrics(self._metrics, output_tail)

    def _script(self, values: Dict[str, Any]) -> List[str]:
        more = [word for name, value in self._extra.items() for word in option(name, value)]
        return [str(values["script"]), *map(str, values.get("args") or ()), *more]


def mirror(work: str, scratch: str) -> str:
    """A folder of links to what the project holds: each slot starts its programs in a folder of its own, so that two
    that write a metrics.json at once do not meet.
    """
    os.makedirs(scratch, exist_ok=True)
    for name in os.listdir(work):
        link = os.path.join(scratch, name)
        if not os.path.lexists(link) and name != "metrics.json":
            os.symlink(os.path.join(work, name), link)
    return scratch


def fill(argv: List[str], values: Dict[str, Any]) -> List[str]:
    """Put values where the words have {name}; those that no word names are added as `--name value`."""
    used = {name for name in values if any("{" + name + "}" in word for word in argv)}
    filled = []
    for word in argv:
        for name in used:
            word = word.replace("{" + name + "}", text(values[name]))
        filled.append(word)
    return filled + [word for name, value in values.items() if name not in used for word in option(name, value)]


def option(name: str, value: object) -> List[str]:
    """`--name value`; an absent one has no words."""
    return [] if value is None else [f"--{name}", text(value)]


def text(value: object) -> str:
    """A parameter as a word of a command line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)


def with_interpreter(argv: List[str], folder: str) -> List[str]:
    """A Python script is run by this Python; a file of the project by its path."""
    first = argv[0]
    if first.endswith((".py", ".pyw")):
        return [sys.executable, *argv]
    if "/" not in first and os.path.isfile(os.path.join(folder, first)):
        return ["./" + first, *argv[1:]]
    return argv


def tail(path: str) -> bytes:
    """The end of a file."""
    with open(path, "rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - _TAIL_BYTES))
        return file.read()


def show(stream: int, data: bytes) -> None:
    """Pass on what a program wrote; the runner bounds it."""
    while data:
        data = data[os.write(stream, data) :]


def ending(code: int, errors: bytes) -> tuple[str, str]:
    """The kind and the sentence for a program that did not end well."""
    lines = [line for line in errors.decode(errors="replace").splitlines() if line.strip()]
    words = f": {lines[-1].strip()}" if lines else ""
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return ("killed" if code == -signal.SIGKILL else "crash"), f"killed by {name}{words}"[:_SENTENCE_CHARS]
    return "error", f"exit code {code}{words}"[:_SENTENCE_CHARS]


def read_metrics(path: str, output: bytes) -> Dict[str, Any]:
    """metrics.json, else the last line of the output that is a JSON object. Raises PointFailed."""
    try:
        with open(path, encoding="utf-8") as file:
            found: Any = json.load(file)
    except FileNotFoundError:
        found = _last_object(output)
    except ValueError as problem:
        raise PointFailed("error", f"its metrics.json is not JSON: {problem}") from problem
    if not isinstance(found, dict):
        words = "neither metrics.json nor a JSON object as its last line"
        raise PointFailed("error", f"it wrote no metrics: {words}{_last_line(output)}"[:_SENTENCE_CHARS])
    return found


def _last_line(output: bytes) -> str:
    """The last line of an output, as the end of a sentence."""
    lines = [line for line in output.decode(errors="replace").splitlines() if line.strip()]
    return f", which was: {lines[-1].strip()}" if lines else ", and printed nothing"


def _last_object(output: bytes) -> Optional[Dict[str, Any]]:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if not lines:
        return None
    try:
        found = json.loads(lines[-1])
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def describe(problem: BaseException) -> str:
    """An exception in one line: its type, its words and where it was raised."""
    where = ""
    trace = problem.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if "racksack_agent" not in code.co_filename and not code.co_filename.startswith("<frozen"):
            where = f" ({os.path.basename(code.co_filename)}:{trace.tb_lineno})"
        trace = trace.tb_next
    words = " ".join(str(problem).split())
    if isinstance(problem, SystemExit):
        return f"it called exit({problem.code}){where}"
    return f"{type(problem).__name__}{': ' + words if words else ''}"[:_SENTENCE_CHARS] + where
