"""Runs on a node, as the entrypoint of a job: calls the pickled function of this job and keeps what comes of it.

Sent as a file of the project beside `calls/N.pkl` (N: the job's index in its array) and a copy of cloudpickle.
"""

import json
import os
import pickle
import sys
import traceback
from pathlib import Path

RESULT = "result.pkl"


def main() -> None:
    """Call the function; whatever it raises is part of the result, so the job itself has done well."""
    with open("racksack_call.json", encoding="utf-8") as file:
        wanted = json.load(file)
    if list(sys.version_info[:2]) != wanted["python"]:
        there, here = ".".join(map(str, wanted["python"])), ".".join(map(str, sys.version_info[:2]))
        sys.exit(
            f"the function was pickled by Python {there}, and this node has {here}; pass Executor(python={there!r})"
        )
    import cloudpickle

    with open(f"calls/{os.environ.get('RACKSACK_ARRAY_INDEX', '0')}.pkl", "rb") as file:
        function, args, kwargs = pickle.load(file)  # noqa: S301 - its owner sent it
    try:
        outcome = {"value": function(*args, **kwargs)}
    except BaseException as error:  # noqa: BLE001 - the caller gets it, whatever it is
        outcome = {"error": error, "traceback": traceback.format_exc()}
    try:
        data = cloudpickle.dumps(outcome)
    except Exception as error:  # noqa: BLE001 - a value or an error that cannot travel
        words = f"{type(outcome.get('error', error)).__name__}: {outcome.get('error', error)}"
        data = pickle.dumps({"error": RuntimeError(f"its result cannot be pickled ({words})"),
                             "traceback": outcome.get("traceback") or traceback.format_exc()})  # fmt: skip
    path = Path(os.environ["RACKSACK_RETURN_DIR"], RESULT)
    beside = path.with_suffix(".tmp")
    beside.write_bytes(data)
    beside.replace(path)


if __name__ == "__main__":
    main()
