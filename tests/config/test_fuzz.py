"""Whatever the configuration holds, what comes out is a Config or a ConfigError."""

import random
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from racksack_controller.config.config import Config, ConfigError, parse_config
from racksack_controller.config.fields import CONFIG_FIELDS
from racksack_controller.config.node_fields import NODE_FIELDS
from racksack_jobspecs.write import quoted
from tests.jobspecs.test_fuzz import TOKENS

HERE = Path(__file__).parent
SEEDS = [path.read_bytes() for path in [HERE / "example.yaml", *sorted((HERE / "bad").glob("*.yaml"))]]


def outcome(text: str | bytes) -> Config | ConfigError:
    try:
        return parse_config(text)
    except ConfigError as caught:
        error = caught
    assert error.problems
    for problem in error.problems:
        assert "\n" not in str(problem)
        assert len(str(problem)) < 1000
    return error


def test_damaged_files() -> None:
    chance = random.Random(20260802)
    for _ in range(1500):
        text = bytearray(chance.choice(SEEDS))
        for _ in range(chance.randrange(1, 6)):
            at = chance.randrange(len(text) + 1)
            text[at : at + chance.randrange(4)] = chance.choice(TOKENS)
        outcome(bytes(text))


values = st.text(max_size=12).map(quoted) | st.sampled_from(["[]", "{}", "~", "-1", "[[a]]", "{a: {b: c}}", "{on: x}"])


@given(st.dictionaries(st.sampled_from([field.key for field in CONFIG_FIELDS]), values, max_size=5))
def test_any_values_at_the_top(found: dict[str, str]) -> None:
    outcome("".join(f"{key}: {value}\n" for key, value in found.items()))


@given(st.dictionaries(st.sampled_from([field.key for field in NODE_FIELDS]), values, max_size=5))
def test_any_values_in_a_node(found: dict[str, str]) -> None:
    outcome("nodes:\n  r1:\n" + "".join(f"    {key}: {value}\n" for key, value in found.items()))
