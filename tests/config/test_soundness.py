"""Mistakes of a well-formed configuration: what cannot work is refused, what is likely to be wrong is warned of."""

from __future__ import annotations

import pytest

from racksack_controller.config.config import ConfigError, parse_config
from racksack_controller.config.soundness import warnings

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDJXbnLyq0Vb9rD7Qe4VtnVtZLkpPFBcDOS/E4Jw0o4y"
SSH = f"host: 10.0.0.1, user: racksack, host_key: {KEY}"


@pytest.mark.parametrize(
    ("nodes", "sentence"),
    [
        (f"{{r1: {{ssh: {{{SSH}}}}}, r1b: {{ssh: {{{SSH}}}}}}}", "nodes.r1b: is the same machine as r1"),
        (
            f"{{r1: {{ssh: {{{SSH}}}}}, r2: {{ssh: {{{SSH}, user: other}}}}}}".replace(", user: other", ""),
            "same machine",
        ),
        (f"{{r1: {{ssh: {{{SSH}}}, cpus: 4, reserve: {{cpus: 4}}}}}}", "reserves 4 of 4 CPUs"),
        (f"{{r1: {{ssh: {{{SSH}}}, ram: 4G, reserve: {{ram: 8G}}}}}}", "reserves 8G of 4G of memory"),
    ],
)
def test_what_cannot_work_is_refused(nodes: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        parse_config(f"nodes: {nodes}\n")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f"nodes: {{r1: {{ssh: {{{SSH}}}}}, r2: {{ssh: {{{SSH.replace('0.1', '0.2')}}}}}}}", "count twice"),
        ("nodes: {r1: {ssh: {host: a, user: b}}}", "racksack node trust r1"),
        (f"nodes: {{r1: {{ssh: {{{SSH}, identity: /nowhere/id}}}}}}", "/nowhere/id is not on this machine"),
        (f"group: nobody-has-it\nnodes: {{r1: {{ssh: {{{SSH}}}}}}}", "there is no group nobody-has-it"),
        (f"operators: [nobody-has-it]\nnodes: {{r1: {{ssh: {{{SSH}}}}}}}", "there is no user nobody-has-it"),
        (f"scheduling: {{shares: {{nobody-has-it: 2}}}}\nnodes: {{r1: {{ssh: {{{SSH}}}}}}}", "scheduling.shares"),
        (f"power: {{keep_on: 3}}\nnodes: {{r1: {{ssh: {{{SSH}}}}}}}", "power.keep_on: is 3"),
    ],
)
def test_what_is_likely_to_be_wrong_is_warned_of(text: str, sentence: str) -> None:
    (told,) = warnings(parse_config(text))
    assert sentence in told


def test_a_sound_one_has_no_warnings() -> None:
    assert list(warnings(parse_config(f"nodes: {{r1: {{ssh: {{{SSH}}}}}, here: {{local: {{}}}}}}"))) == []
