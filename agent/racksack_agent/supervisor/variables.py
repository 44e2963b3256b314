"""The environment that a job sees: a clean base, the node's and the job's own variables, and ours.

Later ones win: base, thread counts, the node's (`node_env`), the job's (`env`), then what racksack must set itself.
Thread counts come early because a user may set them; the masks of GPUs come last because a job must not see devices
of others.
"""

from __future__ import annotations

import os
from typing import Any, Dict

from racksack_agent.supervisor import short_tmp

Order = Dict[str, Any]

_THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "PYTHON_CPU_COUNT",
)
_KEPT = ("HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "XDG_RUNTIME_DIR")
_DEVICES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def job_variables(order: Order, folder: str, venv: str | None, ram_folder: str | None) -> dict[str, str]:
    """All variables of the job. `folder` is the attempt's; `venv` and `ram_folder` are None where there are none."""
    variables = base_variables(order["base_env"])
    threads = str(max(1, int(order["cpus"])))
    variables.update((name, threads) for name in _THREADS)
    variables["PYTHONUNBUFFERED"] = "1"
    variables.update(of_scheduler(order))
    variables["UV_LINK_MODE"] = "copy"  # what a job installs itself shares no file with uv's cache either
    variables.update(order["node_env"])
    variables.update(order["env"])
    variables.update(order.get("secrets", {}))
    if venv:
        variables["VIRTUAL_ENV"] = venv
        variables["PATH"] = f"{venv}/bin:{variables['PATH']}"
    variables.update(own_variables(order, folder))
    if order.get("slurm_env"):
        variables.update(slurm_variables(variables, order))
    if ram_folder:
        variables["RACKSACK_RAM_DIR"] = ram_folder
    if not is_scheduled(order):
        mask_gpus(variables, order["gpus"])
    return variables


def is_scheduled(order: Order) -> bool:
    """Whether the attempt is a batch job of a scheduler, which gives out devices itself."""
    return "job_name" in (order.get("slurm") or {})


def of_scheduler(order: Order) -> dict[str, str]:
    """What the scheduler tells its batch job: about itself (MPI reads it), and which devices it has."""
    if not is_scheduled(order):
        return {}
    return {name: value for name, value in os.environ.items() if name.startswith("SLURM") or name in _DEVICES}


def base_variables(given: dict[str, str]) -> dict[str, str]:
    """The clean start: who and where, a language that can write all characters, the usual search path."""
    variables = {name: given[name] for name in _KEPT if given.get(name)}
    variables.setdefault("LANG", "C.UTF-8")
    variables["TERM"] = "screen"  # what a pane of tmux and of screen is
    variables["PATH"] = given.get("PATH") or _PATH
    return variables


def own_variables(order: Order, folder: str) -> dict[str, str]:
    """The `RACKSACK_*` variables and TMPDIR."""
    gpus = order["gpus"]
    own = {
        "RACKSACK_JOB_ID": str(order["job_id"]),
        "RACKSACK_JOB_NAME": order["name"],
        "RACKSACK_ATTEMPT": order["attempt"].partition("@")[0],  # the same for all ranks of a gang
        "RACKSACK_NODE": order["node"],
        "RACKSACK_CPUS": f"{order['cpus']:g}",
        "RACKSACK_RAM_MB": str(order["ram_bytes"] >> 20),
        "RACKSACK_GPUS": ",".join(str(gpu["index"]) for gpu in gpus),
        "RACKSACK_GPU_UUIDS": ",".join(gpu["uuid"] for gpu in gpus),
        "RACKSACK_JOB_DIR": folder + "/work",
        "RACKSACK_RETURN_DIR": folder + "/out",
        "RACKSACK_DATA_DIR": folder + "/data",
        "RACKSACK_TMP": folder + "/tmp",  # noqa: S108
        "RACKSACK_SUBMIT_TIME": f"{order['submitted_at_s']:.3f}",
        "TMPDIR": short_tmp.path_of(folder),
    }
    if order.get("secrets"):
        own["RACKSACK_SECRETS"] = ",".join(order["secrets"])  # their names
    if order.get("array_index") is not None:
        own["RACKSACK_ARRAY_INDEX"] = str(order["array_index"])
    return own


def slurm_variables(own: dict[str, str], order: Order) -> dict[str, str]:
    """What a script that was written for Slurm asks for, as far as there is the like: one task on each node."""
    ranks = own.get("RACKSACK_WORLD_SIZE", "1")
    hosts = own.get("RACKSACK_HOSTS", order["node"])
    found = {
        "SLURM_JOB_ID": own["RACKSACK_JOB_ID"],
        "SLURM_JOB_NAME": own["RACKSACK_JOB_NAME"],
        "SLURM_RESTART_COUNT": str(int(own["RACKSACK_ATTEMPT"].rpartition(".")[2]) - 1),
        "SLURM_CPUS_PER_TASK": str(max(1, int(order["cpus"]))),
        "SLURM_CPUS_ON_NODE": str(max(1, int(order["cpus"]))),
        "SLURM_MEM_PER_NODE": own["RACKSACK_RAM_MB"],
        "SLURM_GPUS_ON_NODE": str(len(order["gpus"])),
        "SLURM_JOB_GPUS": own["RACKSACK_GPUS"],
        "SLURM_JOB_NODELIST": hosts,
        "SLURMD_NODENAME": order["node"],
        "SLURM_NNODES": ranks,
        "SLURM_NTASKS": ranks,
        "SLURM_NODEID": own.get("RACKSACK_RANK", "0"),
        "SLURM_PROCID": own.get("RACKSACK_RANK", "0"),
        "SLURM_LOCALID": "0",
        "SLURM_SUBMIT_DIR": own["RACKSACK_JOB_DIR"],
        "SLURM_TMPDIR": own["TMPDIR"],
    }
    array = {"SLURM_ARRAY_JOB_ID": "RACKSACK_ARRAY_ID", "SLURM_ARRAY_TASK_ID": "RACKSACK_ARRAY_INDEX"}
    found |= {name: own[ours] for name, ours in array.items() if ours in own}
    old_names = {"SLURM_JOBID": "SLURM_JOB_ID", "SLURM_NODELIST": "SLURM_JOB_NODELIST"}
    return found | {old: found[new] for old, new in old_names.items()} | {"SLURM_JOB_NUM_NODES": ranks}


def mask_gpus(variables: dict[str, str], gpus: list[dict[str, Any]]) -> None:
    """Set exactly one mask per vendor, so that nothing is masked twice.

    HIP also obeys CUDA_VISIBLE_DEVICES: a job with AMD devices alone must not have it at all, not even empty.
    """
    for name in ("HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        variables.pop(name, None)
    nvidia = [gpu["uuid"] for gpu in gpus if gpu["vendor"] == "nvidia"]
    amd = [_rocr_name(gpu) for gpu in gpus if gpu["vendor"] == "amd"]
    variables["ROCR_VISIBLE_DEVICES"] = ",".join(amd)
    if nvidia or not amd:
        variables["CUDA_VISIBLE_DEVICES"] = ",".join(nvidia)
        variables["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"


def _rocr_name(gpu: dict[str, Any]) -> str:
    uuid = str(gpu["uuid"])
    return uuid if uuid.startswith("GPU-") else str(gpu["index"])


def marker(folder: str) -> bytes:
    """What the environment of each of the attempt's processes holds, unless the job removed it."""
    return os.fsencode(f"RACKSACK_RETURN_DIR={folder}/out")
