"""The variables that an attempt gets from the controller: who it is, and whom it meets."""

from __future__ import annotations

from collections.abc import Sequence

from racksack_controller.core.state import Attempt, Job


def job_env(job: Job, attempt: Attempt, ranks: Sequence[Attempt]) -> dict[str, str]:
    """Variables by name; what the job itself sets wins. `ranks` are all of the gang, rank 0 first."""
    env = {
        "RACKSACK_RANK": str(attempt.rank),
        "RACKSACK_WORLD_SIZE": str(attempt.ranks),
        "RACKSACK_HOSTS": ",".join(rank.host or rank.node for rank in ranks),
        "RACKSACK_RENDEZVOUS": f"{_in_brackets(ranks[0].host or ranks[0].node)}:{ranks[0].port}",
    }
    if attempt.ranks > 1:
        # Who asks for the place of a rank by these names (PyTorch Lightning, Accelerate) finds it. RANK and WORLD_SIZE
        # count processes, not nodes: they are for torchrun or mpirun to set, once for each of theirs.
        env |= {"MASTER_ADDR": ranks[0].host or ranks[0].node, "MASTER_PORT": str(ranks[0].port)}
        env["NODE_RANK"] = str(attempt.rank)
    if job.array_index is not None:
        env |= {"RACKSACK_ARRAY_ID": str(job.array_id), "RACKSACK_ARRAY_INDEX": str(job.array_index)}
    return env | job.spec.env


def _in_brackets(host: str) -> str:
    """An IPv6 address as it stands before a port."""
    return f"[{host}]" if ":" in host else host
