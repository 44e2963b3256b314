"""What of jobs, nodes and stories a caller may see: values in, values out. No I/O.

Owners and operators see all of a job. Other users see what it holds and why it waits, but not the content it was
submitted with. Nobody in particular (a browser that is not signed in) is told no address of the rack's network, no
login of a BMC, and not who switched what.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from racksack_controller.core.power_records import PowerLine
from racksack_controller.web.caller import Caller
from racksack_jobspecs.spec import JobSpec

View = dict[str, Any]

SOMEWHERE = "(address)"
_FOR_OWNERS = ("project", "snapshot", "returns")
_SENTENCES = ("why", "outcome_reason", "reason", "sentence", "problem")
_ADDRESS = re.compile(
    r"""
    \b[a-z][a-z0-9+]{1,9}://[^\s"'<>,;)]+        # https://10.0.0.7:8443/redfish
    | \b[\w.+-]+@[\w.:\[\]-]+                    # racksack@r1.example.org
    | \b(?!127\.)\d{1,3}(?:\.\d{1,3}){3}\b(?::\d+)?
    """,
    re.VERBOSE | re.IGNORECASE,
)
_PERHAPS_IPV6 = re.compile(r"(?<![\w:])[0-9a-f:]*:[0-9a-f]*:[0-9a-f:]*[0-9a-f](?![\w])", re.IGNORECASE)
_BY_OPERATORS = {
    "hold": "its power is held as it is",
    "release": "its power is no longer held",
    "request": "an operator asked for it",
}


class Hidden:
    """The host names that sentences may hold, as they are configured; addresses are known by their form."""

    def __init__(self) -> None:
        self._names: re.Pattern[str] | None = None

    def hide(self, nodes: Mapping[str, object]) -> None:
        """Know the hosts in the settings of these nodes. The names of nodes are on every page and stay."""
        hosts = {host for node in nodes.values() for host in hosts_in(_plain(node)) if len(host) > 1}
        longest_first = sorted(hosts - set(nodes), key=len, reverse=True)
        words = [rf"(?<![\w.-]){re.escape(host)}(?![\w-])" for host in longest_first]
        self._names = re.compile("|".join(words)) if words else None

    def sentence(self, text: str) -> str:
        """The same without addresses."""
        text = _PERHAPS_IPV6.sub(_hide_ipv6, _ADDRESS.sub(SOMEWHERE, text))
        return self._names.sub(SOMEWHERE, text) if self._names is not None else text


def _hide_ipv6(found: re.Match[str]) -> str:
    """Times of day look alike."""
    try:
        ipaddress.IPv6Address(found[0])
    except ValueError:
        return found[0]
    return SOMEWHERE


def _plain(value: object) -> object:
    """Settings as mappings, lists and texts."""
    if isinstance(value, msgspec.Struct):
        return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def hosts_in(value: object) -> set[str]:
    """The hosts in plain settings: every value of a key that names one, however deep."""
    found: set[str] = set()
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key in ("host", "address", "broadcast", "mac") and isinstance(inner, str):
                found.add(inner)
            if key == "url" and isinstance(inner, str):
                found.add(urlsplit(inner).hostname or "")
            found |= hosts_in(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            found |= hosts_in(inner)
    return found


def job_for(caller: Caller, view: View, hidden: Hidden) -> View:
    """A job or a sweep in a list, as this caller may see it."""
    if caller.is_operator or (caller.is_known and caller.name == view["owner"]):
        return view
    shown = {**view, **{key: "" for key in _FOR_OWNERS if key in view}}
    if not caller.is_known:
        shown |= _without_addresses(view, hidden)
    return shown


def sweep_for(caller: Caller, view: View, hidden: Hidden) -> View:
    """A sweep as this caller may see it: the arguments of its program are its owner's."""
    if caller.is_operator or (caller.is_known and caller.name == view["owner"]):
        return view
    shown = {**view, "target": view["target_public"], "where": ""}
    if not caller.is_known:
        shown |= _without_addresses(view, hidden)
        shown["nodes"] = [
            {**one, "rest": {**one["rest"], **_without_addresses(one["rest"], hidden)} if one["rest"] else None}
            for one in view["nodes"]
        ]
    return shown


def public_spec(spec: JobSpec) -> View:
    """What a job was submitted with, without what it was given and where its content is."""
    shown = msgspec.structs.replace(spec, env={}, args=(), project="", submission="")
    return dict(msgspec.to_builtins(shown))


def node_for(caller: Caller, view: View, hidden: Hidden) -> View:
    """A node as this caller may see it."""
    if caller.is_known:
        return view
    power: View | None = view.get("power")
    shown = {**view, "why": _of_node(view, hidden), "draining_reason": "drained" if view["draining_reason"] else None}
    if power is not None:
        by = "an operator" if power["held_by"] else None
        problem = "an operator can see it" if power["problem"] else ""
        shown["power"] = {**power, "why": "", "way": "", "problem": problem, "held_by": by, "logins": 0}
    return shown


def _of_node(view: View, hidden: Hidden) -> str:
    """Why a node is as it is, without those who wanted it so."""
    if view["draining_reason"] or (view.get("power") is not None and view["state"] not in ("up", "unreachable")):
        return str(view["state"]).replace("_", " ")
    return hidden.sentence(str(view["why"]).partition(";")[0])


def lines_for(caller: Caller, lines: list[View], hidden: Hidden) -> list[View]:
    """Lines of a story, attempts or reasons, as this caller may see them."""
    return lines if caller.is_known else [{**line, **_without_addresses(line, hidden)} for line in lines]


def _without_addresses(view: View, hidden: Hidden) -> View:
    return {key: hidden.sentence(view[key]) for key in _SENTENCES if isinstance(view.get(key), str)}


def power_lines_for(caller: Caller, lines: list[PowerLine]) -> list[PowerLine]:
    """The timeline of power as this caller may see it: for nobody in particular what happened, not how and by whom."""
    if caller.is_known:
        return lines
    return [
        PowerLine(line.at_s, line.node, line.kind, "", _BY_OPERATORS.get(line.kind) or line.sentence.partition(":")[0])
        for line in lines
        if line.kind != "step"
    ]
