"""Runs in HyperQueue's own venv, since its package has no commands: a server and a worker in this process.

Reads a request a line, `first PATH` or `many N FOLDER SLOTS`, and answers `ok` when the server has accepted the work.
"""

from __future__ import annotations

import sys
from pathlib import Path

from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig


def main() -> None:
    """Serve until the end of the input."""
    slots = int(sys.argv[1])
    with LocalCluster() as cluster:
        cluster.start_worker(WorkerConfig(cores=slots))
        client = cluster.client()
        print("ready", flush=True)
        for line in sys.stdin:
            verb, *arguments = line.split()
            # No files for output and errors: the other contenders write none either.
            job = Job(default_workdir=Path("/tmp"))
            if verb == "first":
                path = arguments[0]
                job.program(["sh", "-c", f"date +%s.%N > {path}.new; mv {path}.new {path}"], stdout=None, stderr=None)
            else:
                count, folder = int(arguments[0]), arguments[1]
                for index in range(count):
                    job.program(["sh", "-c", f": > {folder}/{index}"], stdout=None, stderr=None)
            client.submit(job)
            print("ok", flush=True)


if __name__ == "__main__":
    main()
