"""Which spool is meant, and working in it as the user that it belongs to."""

from __future__ import annotations

import functools
import os
import pwd
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from racksack_controller.config.config import DEFAULT_CONFIG, Config, ConfigError, load_config
from racksack_controller.intake.spool import SpoolBusyError, SpoolError
from racksack_controller.main import embedded_config
from racksack_controller.recovery.errors import RecoveryError, RefusedError
from racksack_controller.store import StoreError
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.states import ExitCode

F = TypeVar("F", bound=Callable[..., int])


def spool_options(command: F) -> F:
    """`--spool` and `--config`."""
    for option in (
        click.option("--config", type=click.Path(path_type=Path), help=f"The controller's file ({DEFAULT_CONFIG})."),
        click.option("--spool", type=click.Path(path_type=Path), help="Its folder, instead of a configuration."),
    ):
        command = option(command)
    return command


def guarded(command: F) -> F:
    """Every way in which such a command fails is one sentence and its exit code."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> int:  # noqa: ANN401 - the command's own
        return sentence_of(lambda: command(*args, **kwargs))

    return run  # type: ignore[return-value]  # the same signature


def sentence_of(work: Callable[[], int]) -> int:
    """The exit code of the work, or of the sentence that it failed with."""
    try:
        return work()
    except ConfigError as error:
        click.echo(str(error), err=True)
        return ExitCode.USAGE
    except (RefusedError, SpoolBusyError) as error:
        click.echo(f"racksack: {error}", err=True)
        return ExitCode.REFUSED
    except (RecoveryError, SpoolError, StoreError, sqlite3.Error) as error:
        click.echo(f"racksack: {error}", err=True)
        return ExitCode.ERROR
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"racksack: {where}{error.strerror or error}", err=True)
        return ExitCode.ERROR


def config_of(spool: Path | None, config: Path | None) -> Config | None:
    """The configuration that belongs to the spool of the options, for its nodes; None where there is none.

    Raises ConfigError.
    """
    if config is None and spool is None and not os.environ.get("RACKSACK_HOME") and os.access(DEFAULT_CONFIG, os.R_OK):
        config = DEFAULT_CONFIG
    if config is not None:
        return load_config(config)
    if spool is None and _embedded_home().is_dir():
        return embedded_config(_embedded_home())
    return None


def chosen(spool: Path | None, config: Path | None) -> Spool:
    """The spool of the options: named itself, by a configuration, or else the one of this machine.

    Raises ConfigError.
    """
    if spool is not None:
        return Spool(spool.expanduser().absolute())
    if config is None and not os.environ.get("RACKSACK_HOME") and os.access(DEFAULT_CONFIG, os.R_OK):
        config = DEFAULT_CONFIG
    if config is not None:
        return Spool(load_config(config).spool)
    return Spool(_embedded_home() / "spool")


def is_embedded(spool: Spool) -> bool:
    """Whether it is the spool of this user's embedded controller."""
    return spool.root == _embedded_home() / "spool"


def _embedded_home() -> Path:
    """Where an embedded controller lives; as the client chooses it."""
    if found := os.environ.get("RACKSACK_HOME"):
        return Path(found).expanduser().absolute()
    state = os.environ.get("XDG_STATE_HOME", "")
    return (Path(state) if state.startswith("/") else Path.home() / ".local" / "state") / "racksack"


def as_owner(spool: Spool, work: Callable[[], int]) -> int:
    """Do the work as the user that the spool belongs to, and give its exit code.

    Root must not walk through what users wrote, nor leave files that the controller cannot read. Others do the work
    themselves. Raises RecoveryError.
    """
    owner = _owner_of(spool)
    if os.geteuid() in (owner, *(() if os.geteuid() == 0 else (os.geteuid(),))):
        return work()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        code = int(ExitCode.ERROR)
        try:
            _become(owner)
            code = sentence_of(work)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _owner_of(spool: Spool) -> int:
    try:
        return spool.root.stat().st_uid
    except FileNotFoundError:
        return os.geteuid()
    except OSError as error:
        raise RecoveryError(f"{spool.root} cannot be looked at: {error.strerror}") from error


def _become(uid: int) -> None:
    """Drop root's rights for good."""
    try:
        account = pwd.getpwuid(uid)
        os.initgroups(account.pw_name, account.pw_gid)
        os.setgid(account.pw_gid)
    except KeyError:
        os.setgroups([])
        os.setgid(uid)
    os.setuid(uid)
    os.environ["HOME"] = "/"
