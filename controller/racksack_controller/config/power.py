"""The `power` block of a node: from parsed YAML to frozen settings, or every mistake at once.

    on:  [{redfish: {...}}, {wol: {...}}]     the ways to switch on, tried in this order
    off: [ssh, redfish]                       the ways to switch off; a word names a driver of `on` or of `drivers`
    drivers: {pdu: {command: {...}}}          drivers with names of their own, when there are two of a kind

Passwords never stand here: `password_file` or `credential` says where one is. A mistake never repeats what may be one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from racksack_controller.config.plain_fields import Fields, Mistakes
from racksack_controller.config.power_drivers import KINDS, parse_driver
from racksack_controller.power.settings import (
    CommandSettings,
    DriverSettings,
    PowerSettings,
    SshSettings,
    Watts,
    WolSettings,
)

__all__ = ["parse_power"]


def parse_power(block: object, path: str, mistakes: Mistakes) -> PowerSettings | None:
    """The settings of one node's power; None when `mistakes` grew. `path` is where the block stands, for messages."""
    before = len(mistakes)
    if not isinstance(block, Mapping):
        mistakes.append((path, "must be a mapping with `on` and `off`, see docs/power-drivers.md"))
        return None
    fields = Fields(block, path, mistakes)
    drivers = _named_drivers(fields)
    on = _ways(fields, "on", drivers)
    off = _ways(fields, "off", drivers)
    settings = PowerSettings(
        drivers=PowerSettings.frozen(drivers),
        on=on,
        off=off,
        boot_timeout_s=fields.duration("boot_timeout", 600.0),
        boot_timeout_is_set=block.get("boot_timeout") is not None,
        idle_off_s=_idle_off(fields),
        hard_off=fields.yes("hard_off", default=False),
        min_on_s=fields.duration("min_on", 300.0),
        off_grace_s=fields.duration("off_grace", 180.0),
        silence_s=fields.duration("silence", 20.0),
        watts=_watts(fields),
    )
    fields.finish()
    _check_ways(fields, settings)
    return settings if len(mistakes) == before else None


def _named_drivers(fields: Fields) -> dict[str, DriverSettings]:
    block = fields.raw("drivers")
    drivers: dict[str, DriverSettings] = {}
    if block is None:
        return drivers
    if not isinstance(block, Mapping):
        fields.wrong("drivers", "must map names to drivers, such as drivers: {pdu: {command: {...}}}")
        return drivers
    for name, value in block.items():
        kind = _kind_of(value)
        if kind is None:
            fields.wrong(f"drivers.{name}", f"must hold one driver: one of {', '.join(KINDS)}")
            continue
        if str(name) in KINDS and name != kind:
            fields.wrong(f"drivers.{name}", f"is a {kind} driver with the name of another kind; rename it")
        parsed = parse_driver(kind, value[kind], f"{fields.path}.drivers.{name}.{kind}", fields)
        if parsed is not None:
            drivers[str(name)] = parsed
    return drivers


def _ways(fields: Fields, key: str, drivers: dict[str, DriverSettings]) -> tuple[str, ...]:
    """The names of a ladder; a driver written out in the list joins `drivers` under the name of its kind."""
    value = fields.raw(key)
    if value is None:
        return ()
    items = value if isinstance(value, list) else [value]
    names = []
    for index, item in enumerate(items):
        where = f"{key}[{index}]"
        kind = _kind_of(item)
        if isinstance(item, str):
            name = _reference(fields, where, item, drivers)
        elif kind is not None:
            name = _inline(fields, where, kind, item[kind], drivers)
        else:
            fields.wrong(where, f"must be the name of a driver or one driver: one of {', '.join(KINDS)}")
            name = None
        if name is not None and name in names:
            fields.wrong(where, f"names {name} a second time")
        elif name is not None:
            names.append(name)
    return tuple(names)


def _reference(fields: Fields, where: str, name: str, drivers: dict[str, DriverSettings]) -> str | None:
    if name == "ssh":
        drivers.setdefault("ssh", SshSettings())
    if name in drivers or any(name == known for known in _broken(fields)):
        return name
    known = ", ".join(sorted({*drivers, "ssh"}))
    fields.wrong(where, f"{name!r} is not a driver of this node; known: {known}; write a new one as {{{name}: ...}}")
    return None


def _broken(fields: Fields) -> list[str]:
    """Names of drivers that are written out but have mistakes of their own, so that a reference is not a second one."""
    block = fields.raw("drivers")
    named = [str(name) for name in block] if isinstance(block, Mapping) else []
    ways = fields.raw("on")
    inline = [_kind_of(item) or "" for item in ways] if isinstance(ways, list) else [_kind_of(ways) or ""]
    return named + inline


def _inline(fields: Fields, where: str, kind: str, value: object, drivers: dict[str, DriverSettings]) -> str | None:
    if kind in drivers and kind != "ssh":
        fields.wrong(where, f"is a second {kind} driver; give both names under `drivers` and list the names here")
        return None
    parsed = parse_driver(kind, value, f"{fields.path}.{where}.{kind}", fields)
    if parsed is None:
        return None
    drivers[kind] = parsed
    return kind


def _kind_of(item: Any) -> str | None:  # noqa: ANN401 - parsed YAML
    if isinstance(item, Mapping) and len(item) == 1:
        kind = next(iter(item))
        if kind in KINDS:
            return str(kind)
    return None


def _idle_off(fields: Fields) -> float | None:
    """Seconds, or None for `auto`, the default."""
    if fields.raw("idle_off") in (None, "auto"):
        return None
    return fields.duration("idle_off", 600.0)


def _watts(fields: Fields) -> Watts | None:
    block = fields.raw("watts")
    if block is None:
        return None
    if not isinstance(block, Mapping):
        fields.wrong("watts", "must say what the server draws, such as watts: {idle: 95, max: 190}")
        return None
    inner = fields.inner("watts", block)
    watts = Watts(idle=inner.number("idle", 95), max=inner.number("max", 190))
    inner.finish()
    if watts.max < watts.idle:
        inner.wrong("max", f"is below idle ({watts.max:g} < {watts.idle:g}); correct one of the two")
    return watts


def _check_ways(fields: Fields, settings: PowerSettings) -> None:
    """Ways that cannot do what they are listed for, and a node that could be switched off but never on."""
    for name in settings.on:
        driver = settings.drivers.get(name)
        if isinstance(driver, SshSettings):
            fields.wrong("on", f"{name} cannot switch a server on; name a BMC, wol or a command")
        if isinstance(driver, CommandSettings) and not driver.on:
            fields.wrong("on", f"{name} has no command `on`; add one")
    for name in settings.off:
        driver = settings.drivers.get(name)
        if isinstance(driver, WolSettings):
            fields.wrong("off", f"{name} cannot switch a server off; name ssh, a BMC or a command")
        if isinstance(driver, CommandSettings) and not (driver.off or driver.soft_off):
            fields.wrong("off", f"{name} has neither a command `off` nor `soft_off`; add one")
    if not settings.on and fields.raw("on") in (None, []):
        fields.wrong("on", "is missing, so the node could never be switched on; write on: [{redfish: {...}}]")
