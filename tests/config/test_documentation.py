"""Every key is documented, and what the page shows is valid."""

import re
from pathlib import Path
from typing import Any

import pytest

from racksack_controller.config import fields as config_fields
from racksack_controller.config import node_fields
from racksack_controller.config.config import parse_config
from racksack_controller.config.data import DATA_FIELDS
from racksack_controller.config.environments import ENVIRONMENT_FIELDS
from racksack_controller.config.fields import (
    CONFIG_FIELDS,
    DEFAULTS_FIELDS,
    KEEP_FIELDS,
    LIMITS_FIELDS,
    POWER_FIELDS,
    RETURNS_FIELDS,
    SCHEDULING_FIELDS,
    WATCH_FIELDS,
    WEB_FIELDS,
)
from racksack_controller.config.node_fields import (
    GPU_FIELDS,
    LOCAL_FIELDS,
    NODE_FIELDS,
    RESERVE_FIELDS,
    SLURM_FIELDS,
    SSH_FIELDS,
)
from racksack_controller.config.notify import NOTIFY_FIELDS
from racksack_controller.config.partitions import PARTITION_FIELDS
from racksack_controller.config.secrets import SECRET_FIELDS
from racksack_controller.config.slurm_fields import SLURM_PARTITION_FIELDS
from racksack_jobspecs.schema import field_table

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
TABLES = {
    "CONFIG_FIELDS": CONFIG_FIELDS,
    "WEB_FIELDS": WEB_FIELDS,
    "DEFAULTS_FIELDS": DEFAULTS_FIELDS,
    "SCHEDULING_FIELDS": SCHEDULING_FIELDS,
    "WATCH_FIELDS": WATCH_FIELDS,
    "KEEP_FIELDS": KEEP_FIELDS,
    "RETURNS_FIELDS": RETURNS_FIELDS,
    "LIMITS_FIELDS": LIMITS_FIELDS,
    "ENVIRONMENT_FIELDS": ENVIRONMENT_FIELDS,
    "POWER_FIELDS": POWER_FIELDS,
}
OF_NODES = {
    "NODE_FIELDS": NODE_FIELDS,
    "SSH_FIELDS": SSH_FIELDS,
    "LOCAL_FIELDS": LOCAL_FIELDS,
    "RESERVE_FIELDS": RESERVE_FIELDS,
    "GPU_FIELDS": GPU_FIELDS,
    "SLURM_FIELDS": SLURM_FIELDS,
}
OTHERS = {
    "SLURM_PARTITION_FIELDS": SLURM_PARTITION_FIELDS,
    "DATA_FIELDS": DATA_FIELDS,
    "PARTITION_FIELDS": PARTITION_FIELDS,
    "NOTIFY_FIELDS": NOTIFY_FIELDS,
    "SECRET_FIELDS": SECRET_FIELDS,
}
EVERY = {**TABLES, **OF_NODES, **OTHERS}


def test_all_tables_are_looked_at() -> None:
    assert {name for name in vars(config_fields) if name.endswith("_FIELDS")} == set(TABLES)
    own = {name for name in vars(node_fields) if name.endswith("_FIELDS")} - {"SLURM_OWN_FIELDS"}
    assert own == set(OF_NODES)


@pytest.mark.parametrize("fields", [*EVERY.values()], ids=[*EVERY])
def test_the_page_has_the_table(fields: Any) -> None:
    assert field_table(fields) in PAGE, f"docs/configuration.md should hold this table:\n{field_table(fields)}"


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
def test_the_examples_of_the_page_are_valid(block: str) -> None:
    parse_config(block.replace("AAAA...", "AAAAC3NzaC1lZDI1NTE5AAAAIDJXbnLyq0Vb9rD7Qe4VtnVtZLkpPFBcDOS/E4Jw0o4y"))
