"""How this agent is started again as another of its processes."""

from __future__ import annotations

import os
import sys
from typing import List

PACKAGE = os.path.dirname(os.path.abspath(__file__))  # agents/<hash>/racksack_agent on a node


def agent_command(*words: str) -> List[str]:
    """The command line for `words`. UTF-8 mode: names of files are bytes, whatever the locale says."""
    return [sys.executable, "-I", "-S", "-X", "utf8", os.path.join(PACKAGE, "__main__.py"), *words]
