"""Whether the secrets of jobs can be read, and by nobody else."""

from __future__ import annotations

from racksack_controller.config.config import Config
from racksack_controller.power.secret import SecretError
from racksack_jobspecs.findings import Finding, ok, warning

SECRETS = "secrets"  # for operators: it names files


def look_at_secrets(config: Config) -> list[Finding]:
    """A finding for each secret that is amiss, or one for all; none where there are none. Blocks."""
    found: list[Finding] = []
    for name, one in config.secrets.items():
        try:
            one.secret.read()
        except SecretError as error:
            found.append(warning(SECRETS, f"{name}: {error}; jobs that ask for it do not start"))
            continue
        exposed = one.secret.exposed()
        if exposed is not None:
            found.append(warning(SECRETS, f"{name}: {exposed}"))
    count = len(config.secrets)
    return found or ([ok(SECRETS, f"{count} can be read, and by nobody else")] if count else [])
