"""What `racksack node check` says of a Slurm cluster: whether jobs can be submitted and can work there."""

from __future__ import annotations

from racksack_controller.nodes.settings import SlurmSettings
from racksack_controller.nodes.slurm_facts import Canary, SlurmFacts, SlurmPartitionFacts
from racksack_jobspecs.findings import Finding, clock, failed, ok, warning
from racksack_jobspecs.units import format_duration, format_memory

NO_ACCOUNTING = "none: a job that Slurm no longer lists is given up once it has been absent for a while"


def look_at_cluster(settings: SlurmSettings, facts: SlurmFacts) -> list[Finding]:
    """One finding for each thing that has to be right."""
    versions = ", ".join(f"{name}: {version}" for name, version in sorted(facts.versions.items()))
    findings = [failed("slurm", problem) for problem in facts.problems] or [ok("slurm", versions)]
    accounting = ok("sacct", "it answers") if facts.accounting else warning("sacct", NO_ACCOUNTING)
    return [*findings, accounting, *_partitions(settings, facts), *_canary(facts.canary)]


def _partitions(settings: SlurmSettings, facts: SlurmFacts) -> list[Finding]:
    there = {one.name: one for one in facts.partitions}
    found = []
    for wanted in settings.partitions:
        one = there.get(wanted.name)
        if not wanted.name:
            names = ", ".join(there) or "none"
            found.append(ok("partition", f"Slurm's default partition is used; available: {names}"))
        elif one is None:
            found.append(failed("partition", f"there is no {wanted.name}; there are {', '.join(there) or 'none'}"))
        else:
            found.append(_partition(one, wanted.walltime_s, wanted.gpus))
    return found


def _partition(one: SlurmPartitionFacts, walltime_s: float, gpus: str | None) -> Finding:
    limit = "no time limit" if one.limit_s is None else f"at most {format_duration(one.limit_s)} a job"
    devices = "".join(f", {count} GPUs {model}".rstrip() for model, count in one.gpus.items())
    largest = f"nodes of up to {one.node_cpus} CPUs and {format_memory(one.node_ram_bytes)}"
    told = f"{one.name}: {one.nodes} nodes, {one.cpus} CPUs{devices}, {largest}, {limit}"
    if one.state != "up":
        return failed("partition", f"{told}; it is {one.state}")
    if one.limit_s is not None and walltime_s > one.limit_s:
        return failed("partition", f"{told}; jobs would ask for {format_duration(walltime_s)}: lower its walltime")
    if gpus is not None and gpus not in one.gpus:
        return failed("partition", f"{told}; it has no GPUs called {gpus}")
    return ok("partition", told)


def _canary(canary: Canary) -> list[Finding]:
    """What a small job found."""
    if not canary.ok:
        return [failed("job", canary.problem)]
    return [
        ok("job", f"a job ran on {canary.host} with Python {canary.python}, and saw the agent's home"),
        clock("jobclock", canary.skew_s, "the login node's"),
    ]
