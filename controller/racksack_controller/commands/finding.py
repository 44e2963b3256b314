"""What a check found."""

from __future__ import annotations

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at. verdict: good | warning | bad."""

    what: str
    verdict: str
    sentence: str
