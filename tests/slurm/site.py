"""A controller with one server of its own and a cluster."""

from __future__ import annotations

from pathlib import Path

from tests.end_to_end.site import Site
from tests.slurm.cluster import Cluster

CONFIG = """\
web: {{listen: "off"}}
watch: {{settle: 1s, rescan: 2s}}
nodes:
  here: {{local: {{}}, cpus: {cpus}, ram: 4G, gpus: []}}
  campus:
    slurm:
      local: {{}}
      home: {home}
      conf: {conf}
      partitions: {{cpu: {{}}, gpu: {{gpus: a100, vram: 80G, walltime: 1h}}}}
      max_jobs: {max_jobs}
      absent: 20s
    cost: {cost}
"""

PROGRAM = """\
import os, sys, time
def note(word):
    file = os.open(os.environ["TRACE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(file, f"{word} {os.environ['RACKSACK_ATTEMPT']} {os.environ.get('SLURM_JOB_ID', '-')}\\n".encode())
    os.close(file)
note("begin")
print("on", os.environ["RACKSACK_NODE"], os.environ.get("SLURMD_NODENAME", ""), flush=True)
time.sleep(float(sys.argv[1]))
with open(os.path.join(os.environ["RACKSACK_RETURN_DIR"], "result"), "w") as file:
    file.write(os.environ["RACKSACK_JOB_ID"])
note("end")
"""


def make_site(slurm: Cluster, *, cpus: int = 1, max_jobs: int = 50, cost: float = 1.0) -> Site:
    """A site that is not started yet."""
    site = Site(None)
    config = CONFIG.format(cpus=cpus, home=site.root / "shared", conf=slurm.conf, max_jobs=max_jobs, cost=cost)
    (site.home / "racksack.yaml").write_text(config)
    return site


def make_project(site: Site) -> Path:
    """A project that notes its begin and its end outside, and returns its job's number."""
    folder = site.work / "project"
    folder.mkdir()
    (folder / "main.py").write_text(PROGRAM)
    return folder
