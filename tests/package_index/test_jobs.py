"""Jobs get their packages through the controller, on a node that knows no index of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end.conftest import make_site
from tests.end_to_end.site import Site
from tests.nodes.conftest import Watched, folder, make, make_sshd, sshd
from tests.nodes.sshd import Sshd
from tests.package_index.conftest import Upstream
from tests.package_index.fetch import status_of

__all__ = ["folder", "make", "make_site", "make_sshd", "sshd"]
pytestmark = pytest.mark.skipif(
    shutil.which("rsync") is None or shutil.which("tmux") is None, reason="needs rsync and tmux"
)
UV = Path(sys.executable).parent / "uv"
MAIN = "import demo_of_index\nprint(demo_of_index.answer)\n"


def site_of(make_site: Callable[..., Site], upstream: Upstream, reach: str = "local: {}") -> Site:
    upstream.add("demo_of_index")
    (upstream.folder / "demo_of_index").rename(upstream.folder / "demo-of-index")
    config = f"""\
web: {{listen: "off"}}
environment: {{index: controller, upstream: {upstream.url}}}
nodes:
  here:
    {reach}
    cpus: 8
    ram: 16G
    env: {{UV_NO_CONFIG: "1", PIP_CONFIG_FILE: {os.devnull}, UV_CACHE_DIR: SITE/cache}}
"""
    site = make_site(config)
    (site.home / "racksack.yaml").write_text(config.replace("SITE", str(site.root)))
    return site


@pytest.mark.parametrize("way", ["local", "ssh"])
def test_requirements_come_through_the_controller(
    make_site: Callable[..., Site], upstream: Upstream, sshd: Sshd, folder: Path, way: str
) -> None:
    host = f"host: 127.0.0.1, port: {sshd.port}, user: {sshd.settings(folder).user}, host_key: {sshd.host_key}"
    ssh = f"ssh: {{{host}, identity: {sshd.folder / 'id'}, home: {folder / 'home'}}}"
    site = site_of(make_site, upstream, ssh if way == "ssh" else "local: {}")
    project = site.work / "p"
    project.mkdir()
    (project / "main.py").write_text(MAIN)
    (project / "requirements.txt").write_text("demo-of-index==1.0\n")
    site.start()
    job = int(site.cli("submit", project, "main.py", "--parsable").stdout)
    site.wait_for(job, "done")
    assert site.cli("racksack", "logs", job).stdout == "42\n"
    assert upstream.files_asked() == 1
    assert list((site.spool / "package-index/files").iterdir())


def test_a_lock_is_installed_through_the_controller(make_site: Callable[..., Site], upstream: Upstream) -> None:
    site = site_of(make_site, upstream)
    project = site.work / "p"
    project.mkdir()
    (project / "main.py").write_text(MAIN)
    text = '[project]\nname = "p"\nversion = "1.0"\nrequires-python = ">=3.9"\ndependencies = ["demo-of-index"]\n'
    (project / "pyproject.toml").write_text(text)
    env = {"PATH": os.environ["PATH"], "HOME": str(site.root), "UV_DEFAULT_INDEX": upstream.url, "UV_NO_CONFIG": "1"}
    done = subprocess.run([UV, "lock"], cwd=project, env=env, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    site.start()
    job = int(site.cli("submit", project, "main.py", "--parsable").stdout)
    site.wait_for(job, "done")
    assert site.cli("racksack", "logs", job).stdout == "42\n"
    assert list((site.spool / "package-index/files").iterdir()), "not by the addresses in the lock"


async def test_a_node_reaches_a_port_of_the_controller_until_the_connection_ends(
    upstream: Upstream, sshd: Sshd, make: Callable[..., Watched], folder: Path
) -> None:
    watched = make(sshd.settings(folder / "home"))
    await watched.node.connect()
    port = await watched.node.share_port(int(upstream.url.split(":")[2].split("/")[0]), 0)
    assert port
    upstream.add("demo")
    assert await status_of(f"http://127.0.0.1:{port}/simple/demo/") == 200
    await watched.node.close()
    assert await status_of(f"http://127.0.0.1:{port}/simple/demo/") is None
