"""What a job that is not submitted yet will need on its node, and what of it would have to be sent."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from racksack_controller.core.placing.transfers import transfer_told
from racksack_controller.core.records import DataMount, Job
from racksack_controller.core.state import State
from racksack_controller.intake.data_sets import DataSets
from racksack_controller.intake.ingest import IngestError


async def with_content(draft: Job, data_sets: DataSets, sends_bytes: int) -> Job:
    """A draft with the content that it will have: `sends_bytes` of its project, and the data sets that are here."""
    spec, mounts = draft.spec, []
    for use in spec.data:
        try:
            found = await data_sets.find(use.name, use.version, draft.owner) if not use.content else None
        except IngestError:
            continue  # one that lies on nodes, or that is refused when it is submitted
        if found is not None:
            mounts.append(DataMount(name=use.name, digest=found.digest, bytes=found.size_bytes))
    snapshot = spec.project.removeprefix("snapshot:") if spec.project.startswith("snapshot:") else ""
    return replace(draft, snapshot=snapshot, snapshot_bytes=sends_bytes, data=tuple(mounts))


def transfers_told(state: State, draft: Job, nodes: Iterable[str]) -> list[str]:
    """A sentence for each node to which much would have to be sent."""
    told = (transfer_told(state, draft, name) for name in nodes)
    return [sentence for sentence in told if sentence]
