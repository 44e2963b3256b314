"""docs/power-drivers.md: its examples are valid, and every setting stands in it."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from racksack_controller.config import plain_fields
from racksack_controller.config.power import parse_power
from racksack_controller.config.power_drivers import KINDS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "power-drivers.md"
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example(example: str) -> None:
    mistakes: list[tuple[str, str]] = []
    parse_power(yaml.safe_load(example)["power"], "power", mistakes)
    assert mistakes == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_of_a_driver_is_documented(kind: str) -> None:
    section = PAGE.read_text().split(f"\n## {kind}\n")[1].split("\n## ")[0]
    common = PAGE.read_text().split("\n## redfish\n")[0]
    mistakes: plain_fields.Mistakes = []
    block = plain_fields.Fields({"host": "h", "url": "https://h", "mac": "52:54:00:77:00:01"}, kind, mistakes)
    settings = KINDS[kind](block)
    assert dataclasses.is_dataclass(settings)
    for key in block._known:
        if key != "password":
            assert re.search(rf"\b{key}\b", section + common), f"{kind}.{key} is not in docs/power-drivers.md"
