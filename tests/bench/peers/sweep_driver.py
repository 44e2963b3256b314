"""Runs in the peers' venv: computes points with one peer, its workers warm, and collects all results in one place.

    sweep_driver.py KIND FOLDER      KIND: pool, joblib, celery, dask, hyperqueue

Reads `run POINTS CHUNK SECONDS` a line (SECONDS: what a point waits) and answers with the seconds that it took.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

SLOTS = 2
Chunk = tuple[int, int, float]
Run = Callable[[list[Chunk]], int]  # computes all chunks; how many results there are


def evaluate(a: int, b: int) -> dict[str, float]:
    """The near-empty function; racksack's workers get the same."""
    return {"score": a * 1.5 - b, "trades": a}


def wait_and_evaluate(seconds: float, a: int, b: int) -> dict[str, float]:
    """A point that keeps a core busy for a while."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return evaluate(a, b)


def one(seconds: float, point: int) -> dict[str, float]:
    """One point by its number."""
    a, b = divmod(point, 256)
    return wait_and_evaluate(seconds, a, b) if seconds else evaluate(a, b)


def compute(chunk: Chunk) -> list[dict[str, float]]:
    """All points of a chunk."""
    low, high, seconds = chunk
    if seconds:
        return [wait_and_evaluate(seconds, point // 256, point % 256) for point in range(low, high)]
    return [evaluate(point // 256, point % 256) for point in range(low, high)]


@contextmanager
def pool(_folder: Path) -> Iterator[Run]:
    """concurrent.futures: `map` over the numbers of the points, with the chunk size that it takes."""
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(SLOTS) as executor:

        def run(chunks: list[Chunk]) -> int:
            points = range(chunks[-1][1])
            function = partial(one, chunks[0][2])
            return len(list(executor.map(function, points, chunksize=chunks[0][1])))

        yield run


@contextmanager
def joblib(_folder: Path) -> Iterator[Run]:
    """Loky's processes, kept between calls."""
    from joblib import Parallel, delayed

    with Parallel(n_jobs=SLOTS, batch_size=1) as parallel:
        yield lambda chunks: sum(len(part) for part in parallel(delayed(compute)(chunk) for chunk in chunks))


@contextmanager
def dask(_folder: Path) -> Iterator[Run]:
    """distributed's local cluster."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=SLOTS, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield lambda chunks: sum(len(part) for part in client.gather(client.map(compute, chunks, pure=False)))


@contextmanager
def celery(folder: Path) -> Iterator[Run]:
    """One worker with two processes, Redis as broker and for results, prefetch off."""
    socket = folder / "redis.sock"
    redis = subprocess.Popen(
        ["redis-server", "--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no"],
        stdout=subprocess.DEVNULL,
    )
    worker = None
    try:
        while not socket.exists():
            time.sleep(0.02)
        sys.path.append(str(Path(__file__).parent))  # last: a file there is called as a peer's package is
        from tests_bench_celery import application

        app = application(str(socket))
        here = str(Path(__file__).parent)
        command = [sys.executable, "-m", "celery", "-A", "tests_bench_celery:worker_app", "worker", "-c", str(SLOTS)]
        command += ["-P", "prefork", "-l", "ERROR", "--without-gossip", "--without-mingle", "--without-heartbeat"]
        worker = subprocess.Popen(
            command, cwd=folder,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": here, "BENCH_REDIS": str(socket), "C_FORCE_ROOT": "1"},
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        task = app.tasks["compute"]
        task.delay((0, 1, 0.0)).get(timeout=60)

        def run(chunks: list[Chunk]) -> int:
            from celery import group

            return sum(len(part) for part in group(task.s(chunk) for chunk in chunks)().get(timeout=600))

        yield run
    finally:
        for process in (worker, redis):
            if process is not None:
                process.terminate()
                process.wait()


def leave(low: int, high: int, seconds: float, path: str) -> None:
    """A task of HyperQueue: its results go into a file, which is how a job's results are had from it."""
    beside = Path(path + ".new")
    beside.write_bytes(pickle.dumps(compute((low, high, seconds))))
    beside.rename(path)


@contextmanager
def hyperqueue(folder: Path) -> Iterator[Run]:
    """Server and worker in this process; a task a chunk."""
    from hyperqueue import Job, LocalCluster
    from hyperqueue.cluster import WorkerConfig

    with LocalCluster() as cluster:
        cluster.start_worker(WorkerConfig(cores=SLOTS))
        client = cluster.client()
        number = 0

        def run(chunks: list[Chunk]) -> int:
            nonlocal number
            number += 1
            place = folder / f"run-{number}"
            place.mkdir()
            job = Job(default_workdir=folder)
            program = "import sys; sys.path.insert(0, sys.argv[1]); import sweep_driver as d; "
            program += "d.leave(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), sys.argv[5])"
            for index, (low, high, seconds) in enumerate(chunks):
                words = [str(Path(__file__).parent), str(low), str(high), str(seconds), str(place / str(index))]
                job.program([sys.executable, "-c", program, *words], stdout=None, stderr=None)
            client.submit(job)
            paths = [place / str(index) for index in range(len(chunks))]
            while not all(path.exists() for path in paths):
                time.sleep(0.001)
            return sum(len(pickle.loads(path.read_bytes())) for path in paths)

        yield run


def main() -> None:
    """Serve until the end of the input."""
    kinds = {"pool": pool, "joblib": joblib, "celery": celery, "dask": dask, "hyperqueue": hyperqueue}
    with kinds[sys.argv[1]](Path(sys.argv[2])) as run:
        run([(0, 64, 0.0), (64, 128, 0.0)])
        print("ready", flush=True)
        for line in sys.stdin:
            _, points, size, seconds = line.split()
            total, step = int(points), int(size)
            chunks = [(low, min(low + step, total), float(seconds)) for low in range(0, total, step)]
            began_s = time.perf_counter()
            count = run(chunks)
            took_s = time.perf_counter() - began_s
            if count != total:
                sys.exit(f"{count} results for {total} points")
            print(f"took {took_s}", flush=True)


if __name__ == "__main__":
    main()
