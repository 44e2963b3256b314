"""Fits a line to noisy points by stochastic gradient descent, and saves so that it can go on where it was ended.

    python main.py --steps 2000 --pause 0.01

It saves every 50 steps, and when it is asked to end.
"""

from __future__ import annotations

import argparse
import os
import pickle
import random
import signal
import time
from pathlib import Path

PLACE = Path(os.environ.get("RACKSACK_CHECKPOINT_DIR", "ckpt"))
STATE = PLACE / "state.pickle"
SAVE_EVERY = 50


def save(state: dict) -> None:
    """Under another name first: whoever reads state.pickle finds the old one or the new one, never half of one."""
    PLACE.mkdir(exist_ok=True)
    beside = STATE.with_suffix(".new")
    beside.write_bytes(pickle.dumps(state))
    beside.replace(STATE)


def load() -> dict:
    """What was saved last, or the beginning."""
    if STATE.exists():
        return pickle.loads(STATE.read_bytes())
    return {"step": 0, "slope": 0.0, "offset": 0.0, "random": random.Random(1).getstate()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Fit y = 3 x - 1 to noisy points.")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--pause", type=float, default=0.01, help="seconds of pretended work in a step")
    options = parser.parse_args()

    asked_to_end = []
    signal.signal(signal.SIGTERM, lambda number, frame: asked_to_end.append(number))

    state = load()
    numbers = random.Random()
    numbers.setstate(state["random"])
    how = f"goes on from step {state['step']}" if state["step"] else "begins"
    print(f"attempt {os.environ.get('RACKSACK_ATTEMPT', '-')} {how}", flush=True)

    while state["step"] < options.steps and not asked_to_end:
        x = numbers.uniform(-1, 1)
        error = state["slope"] * x + state["offset"] - (3 * x - 1 + numbers.gauss(0, 0.1))
        state["slope"] -= 0.05 * error * x
        state["offset"] -= 0.05 * error
        state["step"] += 1
        state["random"] = numbers.getstate()
        time.sleep(options.pause)
        if state["step"] % SAVE_EVERY == 0:
            save(state)

    save(state)
    if asked_to_end:
        raise SystemExit(f"asked to end; saved at step {state['step']}")
    print(f"y = {state['slope']:.6f} x + {state['offset']:.6f} after {state['step']} steps")


if __name__ == "__main__":
    main()
