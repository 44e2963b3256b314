"""`racksack node add|check` and `racksack config check`, as an owner types them, against a real sshd."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from racksack_controller.config.config import load_config
from racksack_controller.config.edit import EditError, parsed, with_host_key, with_node
from racksack_controller.nodes.settings import SshSettings
from tests.nodes.sshd import Sshd

RACKSACK = Path(sys.executable).with_name("racksack")
CONFIG = """\
# My rack.
spool: {folder}/spool
nodes:
  here: {{local: {{}}}}   # this laptop

web: {{listen: "off"}}
"""


def racksack(*words: object, code: int = 0, answer: str = "") -> str:
    """Run the command; its whole output."""
    done = subprocess.run(
        [RACKSACK, *map(str, words)], input=answer, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def config(folder: Path) -> Path:
    path = folder / "racksack.yaml"
    path.write_text(CONFIG.format(folder=folder))
    return path


def add(config: Path, sshd: Sshd, *words: object, name: str = "r1", code: int = 0, answer: str = "") -> str:
    address = f"{psutil.Process().username()}@127.0.0.1:{sshd.port}"
    identity = sshd.folder / "id"
    return racksack(
        "node", "add", name, address, "--config", config, "--identity", identity, *words, code=code, answer=answer
    )


def test_a_node_is_added_with_its_key_and_the_rest_of_the_file_stays(config: Path, sshd: Sshd) -> None:
    said = add(config, sshd, answer="y\n")
    fingerprint = subprocess.run(
        ["ssh-keygen", "-lf", sshd.folder / "host_key.pub"], capture_output=True, text=True, check=True
    ).stdout.split()[1]
    assert fingerprint in said
    reach = load_config(config).nodes["r1"].reach
    assert isinstance(reach, SshSettings)
    assert reach.host_key == sshd.host_key
    assert reach.port == sshd.port
    assert "# My rack." in config.read_text()
    assert "# this laptop" in config.read_text()


def test_without_a_yes_nothing_changes(config: Path, sshd: Sshd) -> None:
    before = config.read_text()
    assert "nothing was changed" in add(config, sshd, code=5, answer="n\n")
    assert config.read_text() == before


def test_the_added_node_can_be_checked(config: Path, sshd: Sshd) -> None:
    add(config, sshd, "--yes")
    findings = json.loads(racksack("node", "check", "r1", "--config", config, "--json"))
    verdicts = {finding["what"]: finding["verdict"] for finding in findings}
    assert verdicts["reach"] == verdicts["python"] == verdicts["rsync"] == verdicts["session"] == "ok"


def test_a_check_names_a_changed_key(config: Path, sshd: Sshd) -> None:
    add(config, sshd, "--yes")
    sshd.stop()
    sshd.new_host_key()
    sshd.start()
    assert "key" in racksack("node", "check", "r1", "--config", config, code=1)


def test_a_changed_key_is_stored_after_a_look(config: Path, sshd: Sshd) -> None:
    add(config, sshd, "--yes")
    old = sshd.host_key
    assert "already stored" in racksack("node", "trust", "r1", "--config", config)
    sshd.stop()
    sshd.new_host_key()
    sshd.start()
    assert "`racksack node trust r1`" in racksack("node", "check", "r1", "--config", config, code=1)
    assert "`racksack node trust r1`" in add(config, sshd, "--yes", code=1)
    assert "nothing was changed" in racksack("node", "trust", "r1", "--config", config, answer="n\n", code=5)
    assert old in config.read_text()
    said = racksack("node", "trust", "r1", "--config", config, answer="y\n")
    assert "shows the ED25519 key SHA256:" in said
    assert "Stored until now: SHA256:" in said
    reach = load_config(config).nodes["r1"].reach
    assert isinstance(reach, SshSettings)
    assert reach.host_key == sshd.host_key
    assert "# this laptop" in config.read_text()
    racksack("node", "check", "r1", "--config", config)
    assert "already stored" in add(config, sshd, "--replace-key")


def test_the_first_node_makes_the_file(folder: Path, sshd: Sshd) -> None:
    path = folder / "racksack.yaml"
    add(path, sshd, "--yes")
    config = load_config(path)
    assert list(config.nodes) == ["r1"]
    assert config.web.listen is not None
    assert path.stat().st_mode & 0o777 == 0o640
    assert "# All keys" in path.read_text()


@pytest.mark.parametrize("text", ["", "nodes:\n", "nodes: {}\n", "web: {listen: 'off'}\n", "# nothing yet\n"])
def test_the_first_node_of_a_file_without_any(folder: Path, sshd: Sshd, text: str) -> None:
    path = folder / "racksack.yaml"
    path.write_text(text)
    add(path, sshd, "--yes")
    assert list(load_config(path).nodes) == ["r1"]


def test_other_mistakes_of_a_file_without_nodes_are_said(folder: Path, sshd: Sshd) -> None:
    path = folder / "racksack.yaml"
    path.write_text("web: {listen: nowhere}\nnodes: {}\n")
    assert "line 1" in add(path, sshd, "--yes", code=1)


def test_the_key_is_the_one_that_the_page_says_to_compare(config: Path, sshd: Sshd) -> None:
    """A stock sshd has three keys, and a client that does not ask for one gets the RSA one."""
    keys = {}
    for kind in ("rsa", "ecdsa", "ed25519"):
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", sshd.folder / f"stock_{kind}"], check=True)
        listed = ["ssh-keygen", "-lf", sshd.folder / f"stock_{kind}.pub"]
        keys[kind] = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()[1]
    text = (sshd.folder / "config").read_text()
    own = f"HostKey {sshd.folder}/host_key\n"
    sshd.stop()
    (sshd.folder / "config").write_text(
        text.replace(own, "".join(f"HostKey {sshd.folder}/stock_{kind}\n" for kind in keys))
    )
    sshd.start()
    said = add(config, sshd, answer="n\n", code=5)
    assert f"the ED25519 key {keys['ed25519']}" in said
    assert "/etc/ssh/ssh_host_ed25519_key.pub" in said
    assert keys["rsa"] not in said


@pytest.mark.parametrize("address", ["r1", "root@", "@host", "root@host:x", "root@host:22:23:"])
def test_bad_addresses_get_a_sentence(config: Path, address: str) -> None:
    assert "was not added" in racksack("node", "add", "r1", address, "--config", config, "--yes", code=1)


def test_a_host_that_is_silent_gets_a_sentence(config: Path, sshd: Sshd) -> None:
    sshd.stop()
    assert "cannot be reached" in add(config, sshd, "--yes", code=1)


def test_the_same_name_twice_is_refused(config: Path, sshd: Sshd) -> None:
    assert "already" in add(config, sshd, "--yes", name="here", code=1)


def test_config_check_says_every_mistake(config: Path) -> None:
    assert "OK, 1 node: here" in racksack("config", "check", config)
    assert "OK, 1 node: here" in racksack("config", "check", "--config", config)
    assert "given twice" in racksack("config", "check", config, "--config", config, code=2)
    config.write_text("nodes: {r1: {ssh: {hots: x}}}\nweb: {listen: nowhere}\n")
    said = racksack("config", "check", config, code=2)
    assert "line 1" in said
    assert "line 2" in said


def test_a_missing_file_gets_a_sentence(folder: Path) -> None:
    assert "cannot be read" in racksack("config", "check", folder / "none.yaml", code=2)
    assert "cannot be read" in racksack("controller", "--config", folder / "none.yaml", code=2)


NEW = {"ssh": {"host": "10.0.0.2", "user": "racksack"}}


@pytest.mark.parametrize(
    "text",
    [
        "nodes:\n  here: {local: {}}\n",
        "nodes:\n  here: {local: {}}",
        "nodes:\n    here:\n        local: {}\n\n# the end\nweb: {listen: 'off'}\n",
        "web: {listen: 'off'}\nnodes:\n  here:\n    local: {}\n    labels:\n    - a\n    - b\n",
        "nodes:\n",
        "nodes: {}\n",
        "nodes: ~   # none yet\nweb: {listen: 'off'}\n",
        "web: {listen: 'off'}\n",
        "",
    ],
)
def test_the_new_node_fits_into_any_block(text: str, tmp_path: Path) -> None:
    result = with_node(text, "r2", NEW)
    path = tmp_path / "racksack.yaml"
    path.write_text(result)
    assert "r2" in load_config(path).nodes
    kept = result.replace(" ", "")
    assert all(line.replace("{}", "").replace("~", "").replace(" ", "") in kept for line in text.splitlines()[:1])
    assert all(line in result for line in text.splitlines() if not line.startswith("nodes:"))


def test_nodes_in_braces_are_left_to_the_owner() -> None:
    with pytest.raises(EditError, match="by hand"):
        with_node("nodes: {here: {local: {}}}\n", "r2", NEW)


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDJXbnLyq0Vb9rD7Qe4VtnVtZLkpPFBcDOS/E4Jw0o4y"
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDJXbnLyq0Vb9rD7Qe4VtnVtZLkpPFBcDOS/E4Jw0o5y"


@pytest.mark.parametrize(
    "text",
    [
        f"nodes:\n  r1: {{ssh: {{host: a, user: b, host_key: {KEY}}}}}  # here\n",
        f"nodes:\n  r1:\n    ssh:\n      host: a\n      host_key: '{KEY}'   # old\n      user: b\nweb: {{}}\n",
        "nodes: {r1: {ssh: {host: a, user: b}}}\n",
        "nodes:\n  r1:\n    ssh:\n      host: a  # no key yet\n      user: b\n  r2: {local: {}}\n",
    ],
)
def test_a_key_is_replaced_in_any_form(text: str) -> None:
    result = with_host_key(text, "r1", OTHER)
    config = parsed(result)
    assert config is not None
    reach = config.nodes["r1"].reach
    assert isinstance(reach, SshSettings)
    assert reach.host_key == OTHER
    assert result.count("#") == text.count("#")


def test_a_key_that_two_nodes_share_is_left_to_the_owner() -> None:
    text = f"nodes:\n  r1: {{ssh: &way {{host: a, user: b, host_key: {KEY}}}}}\n  r2: {{ssh: *way, max_jobs: 1}}\n"
    with pytest.raises(EditError, match="by hand"):
        with_host_key(text, "r2", OTHER)
