"""Jobs of several users with the controller's rights: refused by the configuration, or said aloud."""

from __future__ import annotations

import os
import pwd
import socket
from pathlib import Path

import pytest

from racksack_controller.checks.sharing import look_at_sharing
from racksack_controller.config.config import ConfigError, parse_config
from racksack_jobspecs.findings import Verdict

ME = pwd.getpwuid(os.geteuid()).pw_name
SERVER = f"r1: {{ssh: {{host: 192.0.2.5, user: {ME}}}}}"


def test_a_group_and_the_controllers_own_machine_do_not_go_together() -> None:
    for local in ("{}", "", "{home: /scratch/x}", "{shared: no}"):
        with pytest.raises(ConfigError) as refused:
            parse_config(f"group: users\nnodes:\n  {SERVER}\n  here: {{local: {local}}}\n")
        [problem] = refused.value.problems
        assert (problem.line, problem.path) == (4, "nodes.here")
        assert "local: {shared: yes}" in problem.sentence
        assert "SSH key" in problem.sentence
    assert parse_config("nodes: {here: {local: {}}}"), "one user's controller is that user"
    assert parse_config("group: users\nnodes: {here: {local: {shared: yes}}}")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.0.0.7", "::1", "LOCALHOST", socket.gethostname()])
def test_ssh_to_the_controllers_own_account_is_the_same(host: str) -> None:
    text = f'group: users\nnodes: {{here: {{ssh: {{host: "{host}", user: {ME}}}}}}}'
    [finding] = look_at_sharing(parse_config(text))
    assert (finding.verdict, "here" in finding.sentence) == (Verdict.FAILED, True)
    [finding] = look_at_sharing(parse_config(text.replace(f"user: {ME}", "user: somebody-else")))
    assert finding.verdict is Verdict.OK


def test_what_was_chosen_is_said(tmp_path: Path) -> None:
    [finding] = look_at_sharing(parse_config("group: users\nnodes: {here: {local: {shared: yes}}}"))
    assert finding.verdict is Verdict.WARNING
    assert "everybody's results" in finding.sentence
    assert look_at_sharing(parse_config(f"nodes: {{{SERVER}, here: {{local: {{}}}}}}")) == []
    [finding] = look_at_sharing(parse_config(f"group: users\nnodes:\n  {SERVER}"))
    assert finding.verdict is Verdict.OK
