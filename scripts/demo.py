"""`make demo`: submit a real project to the embedded controller, follow it, fetch its results, say what it measured.

Uses only the commands that a user has. Everything stays where they put it for the user who ran this, so that one can go
on from here: the controller's state in the XDG state folder (or RACKSACK_HOME), the results in ./results.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
COMMANDS = CHECKOUT / ".venv" / "bin"
PROJECT = "docs/examples/digits"


class DemoError(Exception):
    """A command of the demo failed; it has already said why."""


def environment(empty_config: Path) -> dict[str, str]:
    """The user's environment, made to mean the embedded controller whatever is configured."""
    chosen = dict(os.environ)
    chosen["PATH"] = f"{COMMANDS}{os.pathsep}{chosen.get('PATH', os.defpath)}"
    config = Path(chosen.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "racksack" / "client.yaml"
    if chosen.pop("RACKSACK_CONTROLLER", None) or config.exists():
        print("A controller is configured for you already; the demo leaves it alone and uses this machine.")
        chosen["XDG_CONFIG_HOME"] = str(empty_config)
    return chosen


def run(environment: Mapping[str, str], *command: str, keep: bool = False) -> str:
    """Show and run one command; `keep` returns its stdout instead of showing it. Raises DemoError."""
    print(f"\n$ {shlex.join(command)}", flush=True)
    ended = subprocess.run(
        [COMMANDS / command[0], *command[1:]],
        cwd=CHECKOUT,
        env=dict(environment),
        stdout=subprocess.PIPE if keep else None,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise DemoError(f"{shlex.join(command)} ended with {ended.returncode}")
    return (ended.stdout or "").strip()


def measured(metrics: dict[str, Any], result: dict[str, Any]) -> list[str]:
    """What the job found out (metrics.json) and what it took (result.json), as lines."""
    lines = [
        f"  {name:<12} {entry['accuracy_mean']:.4f} of {metrics['folds']} folds in {entry['seconds']:.1f} s"
        for name, entry in metrics["models"].items()
    ]
    lines.append(
        f"  {metrics['best']} on {metrics['test_pictures']} pictures that it never saw: {metrics['test_accuracy']:.4f}"
    )
    took = []
    if result.get("ram_peak_bytes"):
        took.append(f"{result['ram_peak_bytes'] / 2**20:.0f} MiB of memory at most")
    if result.get("cpu_s"):
        took.append(f"{result['cpu_s']:.1f} s of CPU")
    if result.get("started_at_s") and result.get("ended_at_s"):
        took.append(f"{result['ended_at_s'] - result['started_at_s']:.1f} s from start to end")
    return [*lines, f"  took {', '.join(took)}"] if took else lines


def show_results(job: str, results: Path) -> None:
    """Where the results are and what is in them. Raises DemoError when they are not complete."""
    folders = sorted(results.glob(f"{job}-*"))
    if not folders:
        raise DemoError(f"the results of job {job} are not in {results}")
    folder = folders[-1]
    metrics = json.loads((folder / "metrics.json").read_text())
    result = json.loads((folder / "result.json").read_text())
    print(f"\nResults: {folder}")
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        print(f"  {path.relative_to(folder)!s:<14} {path.stat().st_size:>9,} bytes")
    print("\nMeasured:")
    print("\n".join(measured(metrics, result)))


def job_id(said: str) -> str:
    """The id in what `submit` said. Raises DemoError."""
    match = re.match(r"Submitted job (\d+) ", said)
    if match is None:
        raise DemoError(f"submit said {said!r}, which names no job")
    return match[1]


def demo(results: Path) -> None:
    """The whole of it, with the results in a folder of `results`. Raises DemoError."""
    cpus = str(min(2, os.cpu_count() or 1))
    with tempfile.TemporaryDirectory(prefix="racksack-demo-") as empty_config:
        chosen = environment(Path(empty_config))
        command = (
            "submit",
            PROJECT,
            "main.py",
            "--cpus",
            cpus,
            "--ram",
            "1G",
            "--name",
            "digits",
            "--",
            "--folds",
            "5",
        )
        said = run(chosen, *command, keep=True)
        print(said)
        job = job_id(said)
        run(chosen, "racksack", "logs", job, "--follow")
        run(chosen, "racksack", "status")
        run(chosen, "fetch-results", job, "-o", os.path.relpath(results, CHECKOUT))
        show_results(job, results)
        address = run(chosen, "racksack", "web", keep=True)
    home = (
        chosen.get("RACKSACK_HOME") or Path(chosen.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "racksack"
    )
    print(f"\nStatus page: {address}")
    print(f"The controller of this machine goes on running, with its state in {home}.")
    print("Commands:    .venv/bin/submit, .venv/bin/fetch-results, .venv/bin/racksack")
    print("To stop it:  .venv/bin/racksack controller stop")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Run a real project on this machine and fetch its results.")
    parser.add_argument("--results", type=Path, default=CHECKOUT / "results", help="default: ./results of the checkout")
    try:
        demo(parser.parse_args().results.absolute())
    except DemoError as failure:
        sys.exit(f"The demo stopped: {failure}.")
    except KeyboardInterrupt:
        sys.exit(130)
