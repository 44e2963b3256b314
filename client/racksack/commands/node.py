"""`racksack node add|trust|check|list`. All but the list belong to the controller and run on its machine."""

from __future__ import annotations

from racksack.cli import Lazy, LazyGroup

group = LazyGroup(
    "node",
    table={
        "add": Lazy(
            "racksack_controller.commands.node_add:command", "Show a node's key and add it to the configuration."
        ),
        "trust": Lazy(
            "racksack_controller.commands.node_add:trust", "Store the new SSH host key of a reinstalled node."
        ),
        "check": Lazy("racksack_controller.commands.node_check:command", "Check everything a node needs."),
        "list": Lazy("racksack.commands.nodes:command", "Show the nodes."),
    },
    help="Add, check and list nodes.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
