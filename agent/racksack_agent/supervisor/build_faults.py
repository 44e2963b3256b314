"""Whether an environment could not be made because of the node or its network: then it is tried elsewhere, and again.

uv and pip exit with the same status whatever went wrong, so their words have to tell. Wrong guesses are cheap: a job
that is tried elsewhere in vain ends after a few tries.
"""

from __future__ import annotations

import os
import re

_TAIL_BYTES = 64 * 1024

_NETWORK = re.compile(
    r"dns error|failed to lookup address|name resolution|name or service not known|nodename nor servname"
    r"|error sending request|tcp connect error|connection refused|connection reset|connection (?:was )?closed"
    r"|connection broken|connection aborted|newconnectionerror|connecttimeout|readtimeout|timed out|timeout was reached"
    r"|network is unreachable|no route to host|max retries exceeded|proxyerror|tunnel error|broken pipe"
    r"|unexpected eof|incompleteread|tls handshake|ssl: |certificate verify failed|invalid peer certificate"
    r"|\b50[0234]\b (?:server error|bad gateway|service unavailable|gateway time)"
    r"|http status server error|429 too many requests",
    re.IGNORECASE,
)
_NODE = (
    (r"no space left on device|os error 28\b|errno 28\b|disk quota exceeded", "its disk is full"),
    (r"read-only file system|os error 30\b|errno 30\b", "its disk is read-only"),
    (r"input/output error|os error 5\b|errno 5\b", "its disk fails"),
    (r"too many open files|os error 2[34]\b|errno 2[34]\b", "it has no file descriptors left"),
    (r"resource temporarily unavailable|os error 11\b|errno 11\b|can't start new thread", "it has no processes left"),
    (r"cannot allocate memory|out of memory|os error 12\b|errno 12\b", "its memory is full"),
    (
        r"ensurepip is not available|no module named (?:venv|ensurepip|pip)\b",
        "its Python cannot make environments; install the package python3-venv there, or put uv on it",
    ),
)


def node_fault(said: str) -> str:
    """What of the node or its network kept an environment from being made, as a sentence; empty if it was neither."""
    for pattern, sentence in _NODE:
        if re.search(pattern, said, re.IGNORECASE):
            return f"this node could not make the environment: {sentence}"
    if _NETWORK.search(said):
        return "the package index cannot be reached from this node"
    return ""


def said_since(log: str, start: int) -> str:
    """What a log says from a byte on, of a long log the end of that."""
    try:
        with open(log, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(start, size - _TAIL_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
