"""Starts an MPI program (MPICH, Intel MPI) on all ranks of a job, without SSH between the nodes.

    submit docs/examples/mpi main.py --nodes 4 --cpus 8 -- ./solver --its arguments

`mpiexec -launcher manual` prints, for each node, the command line of a helper that starts processes there and reports
to it. Rank 0 hands these lines to the other ranks at the rendezvous; each runs its own.
"""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
import time

RANK, SIZE = int(os.environ["RACKSACK_RANK"]), int(os.environ["RACKSACK_WORLD_SIZE"])
HOSTS = os.environ["RACKSACK_HOSTS"].split(",")
HOST, PORT = os.environ["RACKSACK_RENDEZVOUS"].rsplit(":", 1)
MARK = "HYDRA_LAUNCH: "
WAIT_S = 300.0


def lead(program: list[str]) -> int:
    """Run mpiexec, hand out the helpers, and end as it does."""
    processes = max(1, int(float(os.environ["RACKSACK_CPUS"])))
    hosts = ",".join(f"{host}:{processes}" for host in HOSTS)
    command = ["mpiexec", "-launcher", "manual", "-localhost", HOSTS[0], "-hosts", hosts, "-n", str(processes * SIZE)]
    mpiexec = subprocess.Popen([*command, *program], stdout=subprocess.PIPE, text=True)
    lines: list[str] = []
    for line in mpiexec.stdout or ():
        if line.startswith(MARK):
            lines.append(line.removeprefix(MARK).strip())
        elif line.startswith("HYDRA_LAUNCH_END"):
            break
    helpers = [subprocess.Popen(shlex.split(lines[0]))] if lines else []
    give_out(lines[1:])
    for line in mpiexec.stdout or ():
        print(line, end="", flush=True)
    for helper in helpers:
        helper.wait()
    return mpiexec.wait()


def give_out(lines: list[str]) -> None:
    """Send rank K the K-th command line."""
    with socket.create_server((HOST, int(PORT))) as server:
        server.settimeout(WAIT_S)
        for _ in range(SIZE - 1):
            connection, _ = server.accept()
            with connection:
                rank = int(connection.recv(16))
                connection.sendall(lines[rank - 1].encode())


def follow() -> int:
    """Get this rank's command line and run it."""
    give_up_s = time.monotonic() + WAIT_S
    while True:
        try:
            connection = socket.create_connection((HOST, int(PORT)), timeout=WAIT_S)
            break
        except OSError:
            if time.monotonic() > give_up_s:
                raise
            time.sleep(0.2)
    with connection:
        connection.sendall(str(RANK).encode())
        line = connection.makefile().read()
    return subprocess.call(shlex.split(line))


if __name__ == "__main__":
    sys.exit(lead(sys.argv[1:]) if RANK == 0 else follow())
