"""`racksack config check`, which belongs to the controller and runs on its machine."""

from __future__ import annotations

from racksack.cli import Lazy, LazyGroup

group = LazyGroup(
    "config",
    table={"check": Lazy("racksack_controller.commands.config_check:command", "Report every mistake with its line.")},
    help="Check a controller's configuration.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
