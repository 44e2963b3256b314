"""Which controller is meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from racksack.errors import UsageError
from racksack.transport.target import Target, choose, config_file, parse


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("alice@rack", Target("/var/lib/racksack", "alice@rack")),
        ("rack", Target("/var/lib/racksack", "rack")),
        ("alice@rack:/srv/spool/", Target("/srv/spool", "alice@rack")),
        ("alice@2001:db8::1:/srv/spool", Target("/srv/spool", "alice@2001:db8::1")),
        ("/srv/spool", Target("/srv/spool")),
        ("/srv/../srv/my spool", Target("/srv/../srv/my spool")),
    ],
)
def test_forms(text: str, target: Target) -> None:
    assert parse(text, "test") == target


@pytest.mark.parametrize("text", ["", "-oProxyCommand=boom", "a b", "alice@rack:relative", "x\ny", "rack\x1b"])
def test_what_names_no_controller(text: str) -> None:
    with pytest.raises(UsageError, match="does not name a controller"):
        parse(text, "test")


def test_order(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose().home is not None
    assert choose().spool.endswith("/state/racksack/spool")
    monkeypatch.setenv("RACKSACK_HOME", "/srv/home")
    assert choose() == Target("/srv/home/spool", home=Path("/srv/home"))
    config_file().parent.mkdir(parents=True)
    config_file().write_text("controller: bob@rack\n")
    assert choose().host == "bob@rack"
    monkeypatch.setenv("RACKSACK_CONTROLLER", "carol@rack")
    assert choose().host == "carol@rack"
    assert choose("dave@rack").host == "dave@rack"


@pytest.mark.parametrize("text", ["[1", "controller: 3", "spool: /x", "- a", "controller: [a]"])
def test_a_bad_client_yaml_is_one_sentence(text: str) -> None:
    config_file().parent.mkdir(parents=True)
    config_file().write_text(text)
    with pytest.raises(UsageError) as caught:
        choose()
    assert str(config_file()) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_client_yaml_means_this_machine() -> None:
    config_file().parent.mkdir(parents=True)
    config_file().write_text("# nothing\n")
    assert choose().home is not None


@pytest.mark.parametrize(
    ("text", "spool"),
    [
        ("spool: /srv/jobs   # large disk\nnodes: {}\n", "/srv/jobs"),
        ("nodes:\n  r1: {}\n", "/var/lib/racksack"),
        ('spool: "/srv/my jobs"\n', "/srv/my jobs"),
        ("this: is: no yaml\n", "/var/lib/racksack"),
    ],
)
def test_an_installed_controller_wins_over_the_embedded_one(
    text: str, spool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root on the controller's machine types the commands of docs/operating.md as they stand there."""
    file = tmp_path / "racksack.yaml"
    monkeypatch.setattr("racksack.transport.target.INSTALLED", file)
    assert choose().home is not None
    file.write_text(text)
    assert (choose().spool, choose().home, choose().host) == (spool, None, None)
    assert choose("alice@rack").host == "alice@rack"
    monkeypatch.setenv("RACKSACK_HOME", str(tmp_path))
    assert choose().home == tmp_path
