"""The names of everything in a spool, and nothing about what is done with it. See docs/file-protocol.md."""

from __future__ import annotations

from pathlib import Path

import msgspec


class Spool(msgspec.Struct, frozen=True):
    """The paths of one spool."""

    root: Path

    @property
    def incoming(self) -> Path:
        """Uploads on their way in, a folder each."""
        return self.root / "incoming"

    @property
    def jobs(self) -> Path:
        """The drop folder; a `*.yaml` renamed into it is a submitted job."""
        return self.root / "jobs"

    @property
    def rejected(self) -> Path:
        """Job files that were refused, each beside `<name>.error`."""
        return self.jobs / "rejected"

    @property
    def snapshots(self) -> Path:
        """Immutable project content, a folder per digest."""
        return self.root / "snapshots"

    @property
    def projects(self) -> Path:
        """One link per job, or per array, to its snapshot."""
        return self.root / "projects"

    @property
    def returns(self) -> Path:
        """One return folder per job."""
        return self.root / "returns"

    @property
    def checkpoints(self) -> Path:
        """A folder per job that saves: a folder per checkpoint, by its digest."""
        return self.root / "checkpoints"

    @property
    def package_index(self) -> Path:
        """What the controller's package index for nodes keeps."""
        return self.root / "package-index"

    @property
    def database(self) -> Path:
        """The store."""
        return self.root / "racksack.db"

    @property
    def socket(self) -> Path:
        """The controller's HTTP API for clients."""
        return self.root / "controller.sock"

    @property
    def lock(self) -> Path:
        """Held by the one controller of this spool."""
        return self.root / "controller.lock"

    @property
    def journal(self) -> Path:
        """Which job files the controller was working on."""
        return self.root / "intake.journal"

    def checkpoint(self, job_id: int, digest: str) -> Path:
        """One checkpoint of one job."""
        return self.checkpoints / str(job_id) / digest

    def returned(self, job_id: int) -> Path:
        """The return folder of one job."""
        return self.returns / str(job_id)


DEFAULT_SPOOL = Path("/var/lib/racksack")
