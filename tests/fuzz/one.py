"""Fuzzes one target until its time is over: `python -m tests.fuzz.one TARGET SECONDS FOLDER`.

With coverage guidance where atheris can be imported (libFuzzer; the corpus that it finds stays in FOLDER), else with
damaged inputs. The input of a finding is written to FOLDER/findings, and its traceback goes to standard error.
"""

from __future__ import annotations

import random
import sys
import time
import traceback
from pathlib import Path

INPUT_S_MAX = 20  # one input that takes longer is a finding
RESIDENT_MIB_MAX = 2048


def main() -> int:
    """0 when the time was over, else there is a finding."""
    target, seconds, folder = sys.argv[1], float(sys.argv[2]), Path(sys.argv[3])
    findings, corpus = folder / "findings", folder / "corpus" / target
    for one in (findings, corpus):
        one.mkdir(parents=True, exist_ok=True)
    try:
        import atheris
    except ImportError:
        return _by_damage(target, seconds, findings)
    with atheris.instrument_imports(include=["racksack", "racksack_agent", "racksack_controller", "racksack_jobspecs"]):
        from tests.fuzz.targets import TARGETS
    from tests.fuzz.mutate import BYTES_MAX, CORPUS

    options = [
        f"-max_total_time={seconds:.0f}",
        f"-timeout={INPUT_S_MAX}",
        f"-rss_limit_mb={RESIDENT_MIB_MAX}",
        f"-max_len={BYTES_MAX}",
        f"-artifact_prefix={findings}/{target}-",
        "-print_final_stats=1",
        "-close_fd_mask=1",
    ]
    words = CORPUS.parent / f"{target}.dict"
    options += [f"-dict={words}"] if words.exists() else []
    atheris.Setup([sys.argv[0], *options, str(corpus), str(CORPUS / target)], TARGETS[target])
    atheris.Fuzz()
    return 0


def _by_damage(target: str, seconds: float, findings: Path) -> int:
    from tests.fuzz.mutate import damaged, seeds
    from tests.fuzz.targets import TARGETS

    until_s, count, known = time.monotonic() + seconds, 0, seeds(target)
    for data in damaged(known, random.Random(), sys.maxsize):
        count += 1
        try:
            TARGETS[target](data)
        except Exception:  # noqa: BLE001
            traceback.print_exc()
            (findings / f"{target}-{count}").write_bytes(data)
            return 1
        if time.monotonic() > until_s:
            break
    print(f"stat::number_of_executed_units: {count}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
