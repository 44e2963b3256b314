"""Programs that count, save and check what they find, each in a way of its own. All print `begin STEP` and trace each
step with its time; an undisturbed run gives `total_of(steps)`.
"""

from __future__ import annotations

_HEAD = '''\
import hashlib, json, os, sys, time
import numpy as np
PLACE = os.environ["RACKSACK_CHECKPOINT_DIR"]
ATTEMPT = os.environ["RACKSACK_ATTEMPT"]
STEPS, PAUSE, EVERY = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
TRACE = os.environ["TRACE"] + "." + os.environ["RACKSACK_JOB_ID"]


def trace(*words):
    with open(TRACE, "a") as file:
        file.write(" ".join(map(str, (ATTEMPT, repr(time.time()), *words))) + "\\n")


def content(path, step, state):
    """As bytes, with a checksum over all."""
    data = json.dumps({"step": step, "state": [int(x) for x in state]}).encode()
    return hashlib.sha256(data).hexdigest().encode() + b"\\n" + data


def checked(path):
    digest, _, data = open(path, "rb").read().partition(b"\\n")
    assert hashlib.sha256(data).hexdigest().encode() == digest, "BROKEN CHECKPOINT " + path
    found = json.loads(data)
    return found["step"], np.array(found["state"], dtype=np.int64)


def write_slowly(file, data):
    """In pieces, flushed: whoever copies meanwhile sees half of it."""
    for at in range(0, len(data), 4096):
        file.write(data[at : at + 4096])
        file.flush()
        time.sleep(0.0005)


def advanced(state, step):
    return (state * 1103515245 + 12345 + step) % (1 << 31)


SIZE = 3000
'''

_COUNT = """

def main():
    found = load()
    step, state = found if found is not None else (0, np.arange(SIZE, dtype=np.int64))
    trace("begin", step, os.environ.get("RACKSACK_RESUMED", "0"))
    print("begin", step, flush=True)
    while step < STEPS:
        step += 1
        state = advanced(state, step)
        time.sleep(PAUSE)
        trace("step", step)
        if step % EVERY == 0:
            save(step, state)
    with open(os.environ["RACKSACK_RETURN_DIR"] + "/total", "w") as file:
        file.write(str(int(state.sum())))


main()
"""

RENAMED = (
    _HEAD
    + """

def load():
    path = PLACE + "/state"
    return checked(path) if os.path.exists(path) else None


def save(step, state):
    with open(PLACE + "/new", "wb") as file:
        write_slowly(file, content(PLACE, step, state))
    os.replace(PLACE + "/new", PLACE + "/state")
"""
    + _COUNT
)
"""One file, replaced by a rename: what most programs do."""

MARKED = (
    _HEAD
    + """
from racksack_checkpoint import checkpoint


def load():
    if not os.path.exists(PLACE + "/a"):
        return None
    (first, a), (second, b) = checked(PLACE + "/a"), checked(PLACE + "/b")
    assert first == second, f"BROKEN CHECKPOINT of the steps {first} and {second}"
    return first, np.concatenate([a, b])


def save(step, state):
    for name, part in (("a", state[:1000]), ("b", state[1000:])):
        with open(PLACE + "/" + name, "wb") as file:
            write_slowly(file, content(PLACE, step, part))
        time.sleep(0.01)
    checkpoint()
"""
    + _COUNT
)
"""Two files, written over where they are, with moments at which neither is open: only its mark says what is whole."""

CURRENT = (
    _HEAD
    + """
import shutil


def load():
    path = PLACE + "/CURRENT"
    if not os.path.exists(path):
        return None
    folder = PLACE + "/" + open(path).read().strip()
    parts = [checked(folder + "/" + name) for name in ("a", "b")]
    assert parts[0][0] == parts[1][0], "BROKEN CHECKPOINT"
    return parts[0][0], np.concatenate([part for _, part in parts])


def save(step, state):
    folder = PLACE + f"/step-{step}"
    shutil.rmtree(folder, ignore_errors=True)
    os.mkdir(folder)
    for name, part in (("a", state[:1000]), ("b", state[1000:])):
        with open(folder + "/" + name, "wb") as file:
            write_slowly(file, content(PLACE, step, part))
    with open(PLACE + "/CURRENT.new", "w") as file:
        file.write(f"step-{step}")
    os.replace(PLACE + "/CURRENT.new", PLACE + "/CURRENT")
    for name in os.listdir(PLACE):
        if name.startswith("step-") and name not in (f"step-{step}", f"step-{step - EVERY}"):
            shutil.rmtree(PLACE + "/" + name)
"""
    + _COUNT
)
"""A folder for each checkpoint, and CURRENT, which names the last whole one."""

WORKERS = (
    _HEAD
    + """
import multiprocessing


def work(number, pipe):
    while (asked := pipe.recv()) is not None:
        step, part = asked
        part = advanced(part, step)
        if step % EVERY == 0:
            with open(PLACE + f"/part-{number}", "wb") as file:
                write_slowly(file, content(PLACE, step, part))
        pipe.send(part)


def load():
    sums = PLACE + "/SHA256SUMS"
    if not os.path.exists(sums):
        return None
    parts = [checked(PLACE + f"/part-{number}") for number in range(4)]
    assert len({step for step, _ in parts}) == 1, "BROKEN CHECKPOINT"
    return parts[0][0], np.concatenate([part for _, part in parts])


def save(step):
    lines = []
    for number in range(4):
        with open(PLACE + f"/part-{number}", "rb") as file:
            lines.append(hashlib.sha256(file.read()).hexdigest() + f"  part-{number}\\n")
    with open(PLACE + "/sums.new", "w") as file:
        file.write("".join(lines))
    os.replace(PLACE + "/sums.new", PLACE + "/SHA256SUMS")


def main():
    found = load()
    step, state = found if found is not None else (0, np.arange(SIZE, dtype=np.int64))
    pipes = []
    for number in range(4):
        ours, theirs = multiprocessing.Pipe()
        multiprocessing.Process(target=work, args=(number, theirs), daemon=True).start()
        pipes.append(ours)
    trace("begin", step, os.environ.get("RACKSACK_RESUMED", "0"))
    print("begin", step, flush=True)
    parts = np.split(state, 4)
    while step < STEPS:
        step += 1
        for pipe, part in zip(pipes, parts):
            pipe.send((step, part))
        parts = [pipe.recv() for pipe in pipes]
        time.sleep(PAUSE)
        trace("step", step)
        if step % EVERY == 0:
            save(step)
    with open(os.environ["RACKSACK_RETURN_DIR"] + "/total", "w") as file:
        file.write(str(int(sum(part.sum() for part in parts))))


main()
"""
)
"""Four processes that write their parts in place, and a list of sums that the first one writes when all are written."""

ALL = {"renamed": RENAMED, "marked": MARKED, "current": CURRENT, "workers": WORKERS}


def total_of(steps: int) -> int:
    """What an undisturbed run gives."""
    state = list(range(3000))
    for step in range(1, steps + 1):
        state = [(x * 1103515245 + 12345 + step) % (1 << 31) for x in state]
    return sum(state)
