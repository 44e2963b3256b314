"""`python -m tests.simulation.world --seeds 100`, or `--seed 7 --story`: see docs/reliability.md."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.simulation.world.plan import draw
from tests.simulation.world.shrink import shrink
from tests.simulation.world.world import simulate


def main() -> int:
    """Exit code 0: all laws held."""
    options = _parser().parse_args()
    seeds = [options.seed] if options.seed is not None else range(options.first, options.first + options.seeds)
    faults: Counter[str] = Counter()
    began_s, simulated_s, jobs, attempts, failed = time.perf_counter(), 0.0, 0, 0, 0
    for seed in seeds:
        deeds = draw(seed, options.jobs, options.faults)
        found = simulate(seed, deeds)
        faults.update(found.faults)
        simulated_s, jobs, attempts = simulated_s + found.seconds, jobs + found.jobs, attempts + found.attempts
        if options.story:
            print("\n".join(found.story))
        if found.broken:
            failed += 1
            print(f"seed {seed}: {found.broken}")
            if options.shrink:
                few, last = shrink(seed, deeds, found)
                print(f"  {len(few)} of {len(deeds)} deeds suffice:", *few, sep="\n    ")
                print("  and its last moments:", *last.story[-40:], sep="\n    ")
    took_s = time.perf_counter() - began_s
    count = len(list(seeds))
    print(
        f"{count} seeds in {took_s:.1f} s: {failed} broke a law; {simulated_s / 3600:.0f} simulated hours of the rack"
    )
    print(f"{jobs} jobs, {attempts} programs started, {sum(faults.values())} faults:")
    print(", ".join(f"{count} x {name}" for name, count in sorted(faults.items())))
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("simulation", description="The controller on a simulated rack that breaks.")
    parser.add_argument("--seeds", type=int, default=100, help="how many (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="this one alone")
    parser.add_argument("--story", action="store_true", help="tell what happens")
    parser.add_argument("--shrink", action="store_true", help="find the few deeds that suffice to break the law")
    parser.add_argument("--jobs", type=int, default=14)
    parser.add_argument("--faults", type=int, default=10)
    return parser


if __name__ == "__main__":
    sys.exit(main())
