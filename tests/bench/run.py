"""Run benchmarks: `make bench`, or `python tests/bench/run.py first_line startup`.

Tables go to stdout as Markdown, figures to a JSON file. Needs root: everything runs in a network namespace of its own.
Contenders that cannot be had are named with the reason, and the rest is measured.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench import (
    bench_first_line,
    bench_idle,
    bench_resubmit,
    bench_startup,
    bench_sweep,
    bench_throughput,
    harness,
    isolation,
)
from tests.bench.peers import hyperqueue, sweeps
from tests.bench.setting import Setting

BENCHMARKS = {
    "first_line": bench_first_line.run,
    "throughput": bench_throughput.run,
    "growth": bench_throughput.run_growth,
    "idle": bench_idle.run,
    "resubmit": bench_resubmit.run,
    "startup": bench_startup.run,
    "sweep": bench_sweep.run,
}


def main() -> int:
    """Outside: install what needs a network, then run again inside. Inside: measure."""
    options = read_options()
    place = Path(os.environ.get("RACKSACK_BENCH_HOME", "/var/tmp/racksack-bench"))
    if not isolation.inside():
        if "hyperqueue" not in options.without:
            place.mkdir(parents=True, exist_ok=True)
            hyperqueue.install(place / "hyperqueue")
        if "sweep" in (options.benchmarks or BENCHMARKS):
            place.mkdir(parents=True, exist_ok=True)
            sweeps.install(place / "sweeps")
        return isolation.enter(sys.argv)
    isolation.prepare()
    reports = []
    for name in options.benchmarks or BENCHMARKS:
        folder = Path(tempfile.mkdtemp(prefix="racksack-bench-"))
        setting = Setting(folder, place / "hyperqueue", options.rounds, frozenset(options.without), options.quick)
        try:
            found = BENCHMARKS[name](setting)
        except (harness.CannotMeasureError, TimeoutError, OSError) as error:
            print(f"{name} could not be measured: {error}; its files are in {folder}", file=sys.stderr)
            continue
        reports += found
        print("\n\n".join(report.table() for report in found) + "\n", flush=True)
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    harness.write(reports, options.json)
    print(f"figures: {options.json}", file=sys.stderr)
    return 0 if reports else 1


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "benchmarks", nargs="*", choices=[*BENCHMARKS, []], help=f"of {', '.join(BENCHMARKS)}; all if none"
    )
    parser.add_argument("--rounds", type=int, default=9, help="how often each contender is measured (default: 9)")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it works")
    parser.add_argument("--without", action="append", default=[], metavar="PEER", help="leave a peer out: slurm, ...")
    parser.add_argument(
        "--json", type=Path, default=Path("bench.json"), help="where the figures go (default: ./bench.json)"
    )
    parser.add_argument("--keep", action="store_true", help="keep the working folders")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
