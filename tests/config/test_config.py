"""What racksack.yaml says, and what is said about one with mistakes.

After a wording was changed on purpose: RACKSACK_UPDATE=1 pytest tests/config/test_config.py, then read the diff.
"""

import math
import os
from pathlib import Path

import pytest

from racksack_controller.config.config import (
    Config,
    ConfigError,
    Defaults,
    Keep,
    Listen,
    Watch,
    Web,
    load_config,
    parse_config,
)
from racksack_controller.core.power_policy import PowerPolicy
from racksack_controller.nodes.settings import LocalSettings, SshSettings
from racksack_jobspecs.resources import Gpu, Inventory, ResourceRequest

HERE = Path(__file__).parent
BAD = HERE / "bad"
CASES = sorted(path.stem for path in BAD.glob("*.yaml"))
LOCAL = "nodes: {here: {local: {}}}\n"


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config(HERE / "example.yaml")


def said(text: str | bytes) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(text)
    return "".join(f"{problem}\n" for problem in caught.value.problems)


@pytest.mark.parametrize("case", CASES)
def test_each_mistake_has_its_sentence(case: str) -> None:
    expected = BAD / f"{case}.error"
    sentences = said((BAD / f"{case}.yaml").read_bytes())
    if os.environ.get("RACKSACK_UPDATE"):
        expected.write_text(sentences)
    assert sentences == expected.read_text()


def test_no_sentence_is_left_without_its_case() -> None:
    assert {path.stem for path in BAD.glob("*.error")} == set(CASES)


def test_the_message_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "racksack.yaml"
    path.write_text("nodes: {}\n")
    with pytest.raises(ConfigError, match=f"^{path}: line 1: nodes: has no nodes"):
        load_config(path)


def test_a_file_that_is_not_there_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read \(No such file"):
        load_config(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    "text",
    ["", "# nothing\n", b"\xff", b"nodes: \x00", "nodes: " * 1_000_000],
    ids=["empty", "comment", "latin", "nul", "7 MB"],
)
def test_what_is_no_configuration_gets_one_problem(text: str | bytes) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text)
    assert len(caught.value.problems) == 1


def test_the_least_is_one_node() -> None:
    config = parse_config(LOCAL)
    assert config == Config(spool=Path("/var/lib/racksack"), nodes=config.nodes)
    assert config.nodes["here"].reach == LocalSettings(Path("/var/lib/racksack/node"))
    assert config.defaults == Defaults(time_limit_s=604800, idle_off_s=None, lost_after_s=600)
    assert config.nodes["here"].power is None


def test_the_rack_as_a_whole(config: Config) -> None:
    assert (config.group, config.operators) == ("racksack", ("alice",))
    assert config.web == Web(Listen("127.0.0.1", 8470), ("rack.example.org",))
    assert config.defaults == Defaults(604800, 600, 300)
    assert config.watch == Watch(2, 30)
    assert config.keep == Keep(86400, 7 * 86400, 14 * 86400)
    assert config.power == PowerPolicy(boot_stagger_s=5, price_per_kwh=0.3)


def test_a_server(config: Config) -> None:
    node = config.nodes["r1"]
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDJXbnLyq0Vb9rD7Qe4VtnVtZLkpPFBcDOS/E4Jw0o4y"
    identity = Path("/etc/racksack/id_ed25519")
    assert node.reach == SshSettings("10.10.254.106", "racksack", 2222, identity, key)
    assert node.reserve == ResourceRequest(cpus=1, ram_bytes=2 << 30, disk_bytes=10 << 30)
    assert (node.max_jobs, node.labels, node.kind) == (12, ("epyc",), "ssh")
    assert node.power is not None
    assert (node.power.on, node.power.off) == (("wol",), ("ssh",))
    assert node.power.idle_off_s == 600  # from defaults


def test_jumps_lead_through_nodes_and_other_hosts(config: Config) -> None:
    far = config.nodes["far"].reach
    assert isinstance(far, SshSettings)
    assert far.jump is not None
    assert far.jump.host == "gate.example.org"
    assert far.jump.jump == config.nodes["r2"].reach
    assert far.jump.jump.jump == config.nodes["r1"].reach


def test_what_is_configured_wins_over_what_is_probed(config: Config) -> None:
    probed = Inventory(cpus=8, ram_bytes=1, disk_bytes=2, gpus=(Gpu(0, "GPU-1", "nvidia", "x", 3),))
    assert config.nodes["r1"].complete(probed) == probed
    amd = [Gpu(at, str(at), "amd", "RX 6600", 8 << 30) for at in (0, 1)]
    nvidia = Gpu(2, "2", "nvidia", "RTX 3090", 24 << 30)
    assert config.nodes["r2"].complete(probed) == Inventory(24, 64 << 30, 900 << 30, (*amd, nvidia))


def test_no_gpus_at_all() -> None:
    node = parse_config("nodes: {here: {local: {}, gpus: []}}").nodes["here"]
    assert node.complete(Inventory(1, 1, 1, (Gpu(0, "0", "amd", "x", 1),))).gpus == ()


@pytest.mark.parametrize(
    ("text", "listen"),
    [
        ('"127.0.0.1:8470"', Listen("127.0.0.1", 8470)),
        ('"[::1]:80"', Listen("::1", 80)),
        ("0.0.0.0:80", Listen("0.0.0.0", 80)),
        ("localhost:80", Listen("localhost", 80)),
        ("off", None),
    ],
)
def test_listen(text: str, listen: Listen | None) -> None:
    assert parse_config(f"{LOCAL}web: {{listen: {text}}}").web.listen == listen


def test_defaults_that_are_words() -> None:
    config = parse_config(f"{LOCAL}defaults: {{time_limit: none, idle_off: never}}")
    assert config.defaults == Defaults(None, math.inf)
    assert parse_config(f"{LOCAL}defaults: {{idle_off: auto}}").defaults.idle_off_s is None


def test_names_may_begin_alike_and_hold_dots() -> None:
    config = parse_config("nodes: {r1: {local: {}}, r1.lab: {ssh: {host: a, user: b}}, r11: {ssh: {host: b, user: b}}}")
    assert list(config.nodes) == ["r1", "r1.lab", "r11"]


def test_alike_nodes_share_an_anchor() -> None:
    text = """
nodes:
  r1: &server
    ssh: &way {host: 10.0.0.1, user: racksack}
    max_jobs: 4
  r2: {<<: *server, ssh: {<<: *way, host: 10.0.0.2}}
"""
    config = parse_config(text)
    assert [node.max_jobs for node in config.nodes.values()] == [4, 4]
    assert [node.reach.host for node in config.nodes.values() if isinstance(node.reach, SshSettings)] == [
        "10.0.0.1",
        "10.0.0.2",
    ]


def test_scheduling_becomes_the_policy_of_every_pass() -> None:
    text = "scheduling: {backfill: conservative, fair_share: yes, shares: {alice: 2}, max_running_per_owner: 3}\n"
    policy = parse_config(text + "nodes: {here: {local: {}}}\n").scheduling
    assert (policy.backfill, policy.fair_share) == ("conservative", True)
    assert (policy.shares, policy.max_running_per_owner) == ({"alice": 2.0}, 3)


def test_mistakes_in_scheduling_are_said() -> None:
    text = "scheduling: {backfill: fast, shares: {alice: none, bob: 0}}\nnodes: {here: {local: {}}}\n"
    with pytest.raises(ConfigError) as caught:
        parse_config(text)
    assert [problem.path for problem in caught.value.problems] == [
        "scheduling.backfill",
        "scheduling.shares.alice",
        "scheduling.shares.bob",
    ]
