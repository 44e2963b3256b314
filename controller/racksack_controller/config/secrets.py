"""The `secrets` block of racksack.yaml: what jobs may have in their environment that is stored nowhere else."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import msgspec

from racksack_controller.config.named_blocks import named_blocks
from racksack_controller.power.secret import Secret, SecretError
from racksack_jobspecs.index_field import secret_names
from racksack_jobspecs.readers import TEXT, Field, Kind, Report, list_of, shown, word_of
from racksack_jobspecs.spec import JobSpec
from racksack_jobspecs.yamltext import Mapping as Block
from racksack_jobspecs.yamltext import Node

log = logging.getLogger("racksack.config")

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CREDENTIAL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


def _file(node: Node, _path: str, _report: Report) -> Path:
    path = Path(word_of(node))
    if not path.is_absolute():
        raise ValueError(f"{shown(str(path))} is not an absolute path; write one that begins with /")
    return path


def _credential(node: Node, _path: str, _report: Report) -> str:
    word = word_of(node)
    if not _CREDENTIAL.fullmatch(word):
        raise ValueError(f"{shown(word)} is not the name of a systemd credential; write it without a path")
    return word


SECRET_FIELDS = (
    Field("file", Kind(_file, {"type": "string"}), "The file that holds it.", "/etc/racksack/wandb", "none"),
    Field("credential", Kind(_credential, {"type": "string"}), "The systemd credential that is it.", "wandb", "none"),
    Field("users", list_of(TEXT, splits_at_commas=True), "Whose jobs may have it.", "[ann, bob]", "everybody's"),
)


class JobSecret(msgspec.Struct, frozen=True):
    """Where a secret is, and whose jobs may have it. Its name is that of the variable in the job's environment."""

    secret: Secret
    users: tuple[str, ...] | None = None  # None: everybody


def secrets_of(block: Block, report: Report) -> dict[str, JobSecret]:
    """All of them by name."""
    found: dict[str, JobSecret] = {}
    for one in named_blocks(block, "secrets", "a secret's name", SECRET_FIELDS, report):
        if not _NAME.fullmatch(one.name) or one.name.startswith("RACKSACK_"):
            report.add(one.line, one.path, "cannot be an environment variable; write one such as WANDB_API_KEY")
        if ("file" in one.values) == ("credential" in one.values):
            report.add(one.line, one.path, "needs one of file and credential")
        secret = Secret(file=one.values.get("file"), credential=one.values.get("credential"))
        found[one.name] = JobSecret(secret, one.values.get("users"))
    return found


def refused(spec: JobSpec, owner: str, secrets: Mapping[str, JobSecret]) -> str | None:
    """Why a job of this owner cannot have the secrets that it names; None when it can."""
    for name in spec.secrets:
        known = secrets.get(name)
        if known is None or (known.users is not None and owner not in known.users):
            theirs = sorted(name for name, one in secrets.items() if one.users is None or owner in one.users)
            return f"{owner} may use no secret {name}; racksack.yaml has {', '.join(theirs) or 'none'} (secrets)"
    return None


def with_secrets(address: str, secrets: Mapping[str, JobSecret]) -> str:
    """The address of an index with its secrets in place, read now. Raises SecretError with a sentence without them."""
    for name in secret_names([address]):
        if name not in secrets:
            raise SecretError(f"environment.upstream names {name}, which does not stand under secrets")
        address = address.replace("${" + name + "}", quote(secrets[name].secret.read(), safe=""))
    return address


def values_of(spec: JobSpec, owner: str, secrets: Mapping[str, JobSecret]) -> dict[str, str]:
    """The secrets of a job, read now, as far as its owner may still have them. Raises SecretError with a sentence
    without them.
    """
    sentence = refused(spec, owner, secrets)
    if sentence is not None:
        raise SecretError(sentence)
    found = {}
    for name in spec.secrets:
        try:
            value = secrets[name].secret.read()
        except SecretError as error:
            log.error("the secret %s: %s", name, error)  # the owner of a job need not know where it is
            raise SecretError(f"the secret {name} cannot be read on the controller, whose log says why") from None
        if "\0" in value:
            raise SecretError(f"the secret {name} holds a NUL character, which no environment variable can")
        found[name] = value
    return found
