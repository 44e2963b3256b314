"""Sites, as the end-to-end tests have them."""

from __future__ import annotations

from tests.end_to_end.conftest import make_site, shared_site, site

__all__ = ["make_site", "shared_site", "site"]
