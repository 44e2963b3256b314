"""The job's venv, built for real with uv and with pip, from packages made by hand."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from racksack_agent.supervisor import building, environment, venvs
from tests.agent.conftest import BIN
from tests.agent.processes import listed
from tests.agent.serving import order
from tests.agent.wheels import make_wheel

needs_uv = pytest.mark.skipif(not shutil.which("uv", path=BIN), reason="needs uv")
SHOW = "import sys, toy_one; print(toy_one.value, sys.prefix, sys.base_prefix)\n"


@pytest.fixture
def wheels(tmp_path):
    folder = tmp_path / "wheels"
    make_wheel(
        folder,
        "toy_one",
        "1.0",
        "value = 1\ndef main():\n    import sys\n    print('script of', sys.prefix)\n",
        "toy-tool",
    )
    make_wheel(folder, "toy_one", "2.0", "value = 2\n")
    return folder


@pytest.fixture
def settings(wheels):
    """What a user or a node's configuration would say to have packages from a folder."""
    return {"UV_NO_INDEX": "1", "UV_FIND_LINKS": str(wheels), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}


def without_uv(tmp_path):
    """A PATH on which there is all that is needed but uv."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("tmux", "screen", "python3", "sh", "cat"):
        if program := shutil.which(name, path="/usr/bin:/bin"):
            (folder / name).symlink_to(program)
    return {"PATH": str(folder), "HOME": str(tmp_path)}


@needs_uv
def test_requirements_with_uv(serve, project, settings, home):
    digest = serve.project(project(main__py=SHOW, requirements__txt="toy_one==1.0\n"))
    report = serve.run(order("1.1", digest, "main.py", node_env=settings))
    assert report["outcome"] == "done", report["reason"] + serve.out("1.1", "env.log")
    assert serve.out("1.1").split()[:2] == ["1", f"{home}/attempts/1.1/venv"]
    assert "toy-one==1.0" in serve.out("1.1", "env.log")


@needs_uv
def test_the_scripts_of_packages_start_the_jobs_own_python(serve, project, settings, home):
    digest = serve.project(project(job__sh="#!/bin/sh\ntoy-tool\n", requirements__txt="toy_one==1.0\n"))
    serve.run(order("1.1", digest, "job.sh", node_env=settings))
    assert serve.out("1.1") == f"script of {home}/attempts/1.1/venv\n"


@needs_uv
def test_attempts_build_at_once_and_do_not_disturb_each_other(serve, project, settings):
    digest = serve.project(project(main__py=SHOW, requirements__txt="toy_one\n"))
    serve.launch(*(order(f"{number}.1", digest, "main.py", node_env=settings) for number in range(8)))
    for number in range(8):
        assert serve.ended(f"{number}.1")["outcome"] == "done"
        assert serve.out(f"{number}.1").startswith("2 ")


@needs_uv
def test_requirements_that_cannot_be_met(serve, project, settings):
    digest = serve.project(project(main__py=SHOW, requirements__txt="toy_one==3.0\n"))
    report = serve.run(order("1.1", digest, "main.py", node_env=settings))
    assert report["outcome"] == "prepare_failed"
    assert report["reason"].startswith("the environment could not be made from requirements.txt: ")
    assert "toy-one==3.0" in serve.out("1.1", "env.log")
    assert report["exit_code"] is None
    assert report["output_files"] == 1


@needs_uv
def test_a_pyproject_with_dependencies(serve, project, settings):
    text = '[project]\nname = "x"\nversion = "1"\ndependencies = [\n  "toy_one==1.0",\n]\n'
    digest = serve.project(project(main__py=SHOW, pyproject__toml=text))
    assert serve.run(order("1.1", digest, "main.py", node_env=settings))["outcome"] == "done"


@needs_uv
def test_a_uv_lock(serve, project, settings, home):
    text = '[project]\nname = "x"\nversion = "1"\nrequires-python = ">=3.9"\ndependencies = ["toy_one==1.0"]\n'
    folder = project(main__py=SHOW, pyproject__toml=text)
    uv = shutil.which("uv", path=BIN)
    env = {**os.environ, **settings}
    subprocess.run([uv, "lock", "-q", "--python", "/usr/bin/python3"], cwd=folder, env=env, check=True)
    report = serve.run(order("1.1", serve.project(folder), "main.py", node_env=settings))
    assert report["outcome"] == "done", serve.out("1.1", "env.log")
    assert serve.out("1.1").split()[:2] == ["1", f"{home}/attempts/1.1/venv"]


@needs_uv
def test_another_file_and_a_missing_one(serve, project, settings):
    digest = serve.project(project(main__py=SHOW, gpu__txt="toy_one==1.0\n"))
    wanted = {"kind": "requirements", "file": "gpu.txt", "python": None}
    assert serve.run(order("1.1", digest, "main.py", node_env=settings, environment=wanted))["outcome"] == "done"
    report = serve.run(order("2.1", digest, "main.py", environment={**wanted, "file": "tpu.txt"}))
    assert report["outcome"] == "prepare_failed"
    assert "the project has no tpu.txt" in report["reason"]


def test_no_environment_wanted(serve, project):
    digest = serve.project(project(main__py="import sys; print(sys.prefix)", requirements__txt="not read\n"))
    report = serve.run(order("1.1", digest, "main.py", environment={"kind": "none", "file": None, "python": None}))
    assert report["outcome"] == "done"
    assert serve.out("1.1") == "/usr\n"
    assert not (serve.home / "attempts/1.1/venv").exists()


def python_wanted(version):
    return {"kind": "auto", "file": None, "python": version}


def test_the_nodes_own_python_by_its_version(serve, project):
    digest = serve.project(project(main__py="import sys; print(*sys.version_info[:2])"))
    own = subprocess.run(
        ["/usr/bin/python3", "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, text=True
    )
    wanted = own.stdout.strip().replace(" ", ".")
    assert serve.run(order("1.1", digest, "main.py", environment=python_wanted(wanted)))["outcome"] == "done"
    assert serve.out("1.1") == own.stdout


def test_a_python_that_this_node_lacks(serve, project):
    digest = serve.project(project(main__py=""))
    settings = {"UV_OFFLINE": "1", "UV_PYTHON_DOWNLOADS": "never"}
    report = serve.run(order("1.1", digest, "main.py", environment=python_wanted("3.4"), node_env=settings))
    assert report["outcome"] == "prepare_failed"
    assert report["reason"].startswith("this node has no Python 3.4")


def test_without_uv_pip_does_it(start_serve, project, settings, tmp_path, home):
    if subprocess.run(["/usr/bin/python3", "-c", "import ensurepip"], capture_output=True).returncode:
        pytest.skip("needs python3-venv")
    serve = start_serve(env=without_uv(tmp_path))
    assert serve.call("hello")["uv"] is None
    digest = serve.project(project(main__py=SHOW, requirements__txt="toy_one==1.0\n"))
    report = serve.run(order("1.1", digest, "main.py", node_env=settings), 100)
    assert report["outcome"] == "done", serve.out("1.1", "env.log")
    assert serve.out("1.1").split()[:2] == ["1", f"{home}/attempts/1.1/venv"]


def test_without_uv_a_lock_cannot_be_read(start_serve, project, tmp_path):
    serve = start_serve(env=without_uv(tmp_path))
    digest = serve.project(project(main__py="", uv__lock="version = 1\n", pyproject__toml=""))
    report = serve.run(order("1.1", digest, "main.py"))
    assert report["outcome"] == "prepare_failed"
    assert "uv.lock needs uv, and this node has none" in report["reason"]


def test_a_uv_that_was_pushed_later_is_used(start_serve, project, settings, tmp_path, home):
    uv = shutil.which("uv", path=BIN)
    if not uv:
        pytest.skip("needs uv")
    serve = start_serve(env=without_uv(tmp_path))
    assert serve.call("hello")["uv"] is None
    (home / "bin").mkdir()
    (home / "bin" / "uv").symlink_to(uv)
    (home / "cache" / "uv").mkdir()
    digest = serve.project(project(main__py=SHOW, requirements__txt="toy_one==1.0\n"))
    assert serve.run(order("1.1", digest, "main.py", node_env=settings))["outcome"] == "done"
    assert any((home / "cache" / "uv").iterdir()), "it has its cache in the home"


@pytest.mark.parametrize(
    ("files", "entrypoint", "chosen"),
    [
        ({"uv__lock": "", "requirements__txt": ""}, "main.py", ("lock", "uv.lock")),
        ({"requirements__txt": "", "pyproject__toml": '[project]\ndependencies = ["x"]'},
        "main.py", ("requirements", "requirements.txt")),
        ({"pyproject__toml": "[project]\nname = 'x'\ndependencies = []\n"}, "a.sh", ("pyproject", "pyproject.toml")),
        ({"pyproject__toml": "[tool.ruff]\nline-length = 100\n[tool.x]\ndependencies = 1\n"}, "main.py", ("plain", "")),
        ({}, "main.py", ("plain", "")),
        ({}, "job.sh", ("none", "")),
    ],
)  # fmt: skip
def test_the_automatic_choice(project, files, entrypoint, chosen):
    wanted = {"kind": "auto", "file": None, "python": None}
    assert environment.choose(str(project(**files)), entrypoint, wanted) == chosen


@pytest.mark.parametrize(
    ("text", "pinned"),
    [
        (b"a==1\nb==2.0 ; python_version > '3'\n", True),
        (b"# only words\na==1 \\\n    --hash=sha256:00\n", True),
        (b"a>=1\n", False), (b"a==1\n-r other.txt\n", False), (b"a==1\n-e .\n", False), (b"", False),
        (b"./local\n", False),
    ],
)  # fmt: skip
def test_pinned_requirements(text, pinned):
    assert building.all_pinned(text.splitlines()) is pinned


def test_scripts_are_set_right_even_where_the_path_is_too_long_for_the_kernel(tmp_path):
    deep = tmp_path / ("x" * 120) / "bin"
    deep.mkdir(parents=True)
    (deep / "python").symlink_to(sys.executable)
    script = deep / "tool"
    script.write_text("#!/old/python\nimport sys\nprint(sys.argv[1])\n")
    script.chmod(0o755)
    (deep / "binary").write_bytes(b"\x7fELF#!/old/python")
    building.set_script_python(str(deep), "/old/python", str(deep / "python"))
    done = subprocess.run([script, "a b"], capture_output=True, text=True, check=True)
    assert done.stdout == "a b\n"
    assert (deep / "binary").read_bytes() == b"\x7fELF#!/old/python"


def test_a_base_is_made_once(tmp_path):
    base = venvs.Base("/usr/bin/python3", "3.11.2")
    first = venvs.stable_base(str(tmp_path), base)
    assert venvs.stable_base(str(tmp_path), base) == first
    assert [path.name for path in Path(first, "bin").iterdir()] != []
    assert listed(tmp_path) == [Path(first).name]
