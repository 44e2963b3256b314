"""The job's venv, built for real with uv and with pip, from packages made by hand."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from racksack_agent.home import Home
from racksack_agent.supervisor import build_log, installing, python_versions, venv_reuse, venv_scripts, venvs
from tests.agent.conftest import BIN
from tests.agent.processes import listed
from tests.agent.serving import order, planned
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
    folder = project(main__py=SHOW, requirements__txt="toy_one==1.0\n")
    digest = serve.project(folder)
    report = serve.run(order("1.1", digest, "main.py", node_env=settings, environment=planned(folder)))
    assert report["outcome"] == "done", report["reason"] + serve.out("1.1", "env.log")
    assert serve.out("1.1").split()[:2] == ["1", f"{home}/attempts/1.1/venv"]
    assert "toy-one==1.0" in serve.out("1.1", "env.log")


@needs_uv
def test_the_scripts_of_packages_start_the_jobs_own_python(serve, project, settings, home):
    folder = project(job__sh="#!/bin/sh\ntoy-tool\n", requirements__txt="toy_one==1.0\n")
    digest = serve.project(folder)
    serve.run(order("1.1", digest, "job.sh", node_env=settings, environment=planned(folder, "job.sh")))
    assert serve.out("1.1") == f"script of {home}/attempts/1.1/venv\n"


@needs_uv
def test_attempts_build_at_once_and_do_not_disturb_each_other(serve, project, settings):
    folder = project(main__py=SHOW, requirements__txt="toy_one\n")
    digest = serve.project(folder)
    more = {"node_env": settings, "environment": planned(folder)}
    serve.launch(*(order(f"{number}.1", digest, "main.py", **more) for number in range(8)))
    for number in range(8):
        assert serve.ended(f"{number}.1")["outcome"] == "done"
        assert serve.out(f"{number}.1").startswith("2 ")


@needs_uv
def test_requirements_that_cannot_be_met(serve, project, settings):
    folder = project(main__py=SHOW, requirements__txt="toy_one==3.0\n")
    digest = serve.project(folder)
    report = serve.run(order("1.1", digest, "main.py", node_env=settings, environment=planned(folder)))
    assert report["outcome"] == "prepare_failed"
    assert report["reason"].startswith("the environment could not be made from requirements.txt: ")
    assert "toy-one==3.0" in serve.out("1.1", "env.log")
    assert report["exit_code"] is None
    assert report["output_files"] == 1


@needs_uv
def test_a_pyproject_with_dependencies(serve, project, settings):
    text = '[project]\nname = "x"\nversion = "1"\ndependencies = [\n  "toy_one==1.0",\n]\n'
    folder = project(main__py=SHOW, pyproject__toml=text)
    digest = serve.project(folder)
    assert (
        serve.run(order("1.1", digest, "main.py", node_env=settings, environment=planned(folder)))["outcome"] == "done"
    )


@needs_uv
def test_a_uv_lock(serve, project, settings, home):
    text = '[project]\nname = "x"\nversion = "1"\nrequires-python = ">=3.9"\ndependencies = ["toy_one==1.0"]\n'
    folder = project(main__py=SHOW, pyproject__toml=text)
    uv = shutil.which("uv", path=BIN)
    env = {**os.environ, **settings}
    subprocess.run([uv, "lock", "-q", "--python", "/usr/bin/python3"], cwd=folder, env=env, check=True)
    report = serve.run(order("1.1", serve.project(folder), "main.py", node_env=settings, environment=planned(folder)))
    assert report["outcome"] == "done", serve.out("1.1", "env.log")
    assert serve.out("1.1").split()[:2] == ["1", f"{home}/attempts/1.1/venv"]


@needs_uv
def test_another_file_and_a_missing_one(serve, project, settings):
    folder = project(main__py=SHOW, gpu__txt="toy_one==1.0\n")
    digest = serve.project(folder)
    wanted = planned(folder, kind="requirements", file="gpu.txt")
    assert serve.run(order("1.1", digest, "main.py", node_env=settings, environment=wanted))["outcome"] == "done"
    report = serve.run(order("2.1", digest, "main.py", environment={**wanted, "problem": "there is no tpu.txt"}))
    assert (report["outcome"], report["reason"]) == ("prepare_failed", "there is no tpu.txt")


def test_no_environment_wanted(serve, project):
    folder = project(main__py="import sys; print(sys.prefix)", requirements__txt="not read\n")
    digest = serve.project(folder)
    report = serve.run(order("1.1", digest, "main.py", environment=planned(folder, kind="none")))
    assert report["outcome"] == "done"
    assert serve.out("1.1") == "/usr\n"
    assert not (serve.home / "attempts/1.1/venv").exists()


def python_wanted(version):
    return {"kind": "plain", "python": version}


def test_the_nodes_own_python_by_its_version(serve, project):
    folder = project(main__py="import sys; print(*sys.version_info[:2])")
    digest = serve.project(folder)
    own = subprocess.run(
        ["/usr/bin/python3", "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, text=True
    )
    wanted = own.stdout.strip().replace(" ", ".")
    assert serve.run(order("1.1", digest, "main.py", environment=python_wanted(wanted)))["outcome"] == "done"
    assert serve.out("1.1") == own.stdout


def test_a_python_that_this_node_lacks(serve, project):
    folder = project(main__py="")
    digest = serve.project(folder)
    settings = {"UV_OFFLINE": "1", "UV_PYTHON_DOWNLOADS": "never"}
    report = serve.run(order("1.1", digest, "main.py", environment=python_wanted("3.4"), node_env=settings))
    assert report["outcome"] == "prepare_failed"
    assert report["reason"].startswith("this node has no Python 3.4")


def test_without_uv_pip_does_it(start_serve, project, settings, tmp_path, home):
    if subprocess.run(["/usr/bin/python3", "-c", "import ensurepip"], capture_output=True).returncode:
        pytest.skip("needs python3-venv")
    serve = start_serve(env=without_uv(tmp_path))
    assert serve.call("hello")["uv"] is None
    folder = project(main__py=SHOW, requirements__txt="toy_one==1.0\n")
    digest = serve.project(folder)
    report = serve.run(order("1.1", digest, "main.py", node_env=settings, environment=planned(folder)), 100)
    assert report["outcome"] == "done", serve.out("1.1", "env.log")
    assert serve.out("1.1").split()[:2] == ["1", f"{home}/attempts/1.1/venv"]


def test_without_uv_a_lock_cannot_be_read(start_serve, project, tmp_path):
    serve = start_serve(env=without_uv(tmp_path))
    folder = project(main__py="", uv__lock="version = 1\n", pyproject__toml="")
    digest = serve.project(folder)
    report = serve.run(order("1.1", digest, "main.py", environment=planned(folder)))
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
    folder = project(main__py=SHOW, requirements__txt="toy_one==1.0\n")
    digest = serve.project(folder)
    assert (
        serve.run(order("1.1", digest, "main.py", node_env=settings, environment=planned(folder)))["outcome"] == "done"
    )
    assert any((home / "cache" / "uv").iterdir()), "it has its cache in the home"


# A project that builds itself without any other package.
BACKEND = """
import os, zipfile
HEAD = "Metadata-Version: 2.1\\nName: mine\\nVersion: 1.0\\n"
def get_requires_for_build_editable(config_settings=None): return []
def prepare_metadata_for_build_editable(folder, config_settings=None): return metadata(folder)
def prepare_metadata_for_build_wheel(folder, config_settings=None): return metadata(folder)
def metadata(folder):
    info = "mine-1.0.dist-info"; os.mkdir(folder + "/" + info)
    open(folder + "/" + info + "/METADATA", "w").write(HEAD + "Requires-Dist: toy_one\\n")
    open(folder + "/" + info + "/WHEEL", "w").write("Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
    return info
def build_editable(folder, config_settings=None, metadata_directory=None):
    if os.path.exists("broken"): raise SystemExit("it cannot be built")
    name = "mine-1.0-py3-none-any.whl"
    with zipfile.ZipFile(folder + "/" + name, "w") as wheel:
        wheel.writestr("mine.pth", os.path.abspath("src"))
        for part in ("METADATA", "WHEEL"): wheel.write(metadata_directory + "/" + part, "mine-1.0.dist-info/" + part)
        wheel.writestr("mine-1.0.dist-info/RECORD", "")
    return name
"""
BUILD = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
OWN = "import mine, toy_one; print(mine.VALUE, toy_one.value)\n"


def package(project, pyproject, **files):
    folder = project(main__py=OWN, backend__py=BACKEND, pyproject__toml=pyproject, **files)
    (folder / "src").mkdir()
    (folder / "src/mine.py").write_text("VALUE = 7\n")
    return folder


@needs_uv
def test_projects_that_are_packages_and_scripts_that_list_what_they_need(serve, project, settings):
    """Layouts that were passed over when pyproject.toml was read line by line, and others."""
    block = '# /// script\n# dependencies = [\n#   "toy_one==1.0",\n# ]\n# ///\n'
    dynamic = '[project]  # metadata\nname = "mine"\ndynamic = ["version", "dependencies"]\n'
    layouts = {
        "package": (package(project, BUILD), "7 2"),
        "dynamic": (package(project, dynamic + BUILD), "7 2"),
        "broken": (package(project, dynamic + BUILD, broken=""), "7 2"),
        "comment": (project(main__py=SHOW, pyproject__toml='[project]  # x\n"name"="a"\nversion="1"\n'
                            'dependencies = [ # one\n "toy_one==1.0" ]\n'), "1"),
        "both": (package(project, BUILD, requirements__txt="toy_one==1.0\n"), "7 1"),
        "script": (project(main__py=block + SHOW, requirements__txt="nosuchthing==1\n"), "1"),
        "Pipfile": (project(main__py=SHOW, Pipfile='[packages]\ntoy_one = "==1.0"\n'), "1"),
    }  # fmt: skip
    for name, (folder, _) in layouts.items():
        wanted = {"node_env": settings, "environment": planned(folder)}
        serve.launch(order(f"{name}.1", serve.project(folder), "main.py", cpus=0.1, **wanted))
    for name, (_, printed) in layouts.items():
        report = serve.ended(f"{name}.1")
        assert report["outcome"] == "done", serve.out(f"{name}.1", "env.log")
        assert serve.out(f"{name}.1").startswith(printed), name
    assert serve.out("both.1", "env.log").startswith("environment: requirements.txt; the project's own modules")
    assert "note: the project itself could not be installed" in serve.out("broken.1", "env.log")


@needs_uv
def test_a_package_that_must_be_installed_and_cannot(serve, project, settings):
    folder = package(project, BUILD, broken="")
    wanted = planned(folder, kind="pyproject")
    report = serve.run(order("1.1", serve.project(folder), "main.py", node_env=settings, environment=wanted))
    assert report["outcome"] == "prepare_failed"


@needs_uv
def test_extras_and_groups(serve, project, settings):
    text = '[project]\nname = "x"\nversion = "1"\n[project.optional-dependencies]\none = ["toy_one==1.0"]\n'
    text += '[dependency-groups]\ntwo = ["toy_one==2.0"]\n'
    folder = project(main__py=SHOW, pyproject__toml=text)
    digest = serve.project(folder)
    for attempt, wanted, printed in (("1.1", {"extras": ("one",)}, "1"), ("2.1", {"groups": ("two",)}, "2")):
        plan = planned(folder, **wanted)
        assert serve.run(order(attempt, digest, "main.py", node_env=settings, environment=plan))["outcome"] == "done"
        assert serve.out(attempt).startswith(printed)


@needs_uv
def test_a_lock_that_does_not_go_with_its_project_any_more(serve, project, settings):
    text = '[project]\nname = "x"\nversion = "1"\nrequires-python = ">=3.9"\ndependencies = ["toy_one==1.0"]\n'
    folder = project(main__py=SHOW, pyproject__toml=text)
    uv = shutil.which("uv", path=BIN)
    env = {**os.environ, **settings}
    subprocess.run([uv, "lock", "-q", "--python", "/usr/bin/python3"], cwd=folder, env=env, check=True)
    (folder / "pyproject.toml").write_text(text.replace("1.0", "2.0"))
    plan = planned(folder)
    report = serve.run(order("1.1", serve.project(folder), "main.py", node_env=settings, environment=plan))
    assert report["outcome"] == "prepare_failed"
    assert report["reason"].startswith("uv.lock is not up to date with the pyproject.toml beside it; run `uv lock`")


def test_a_python_that_the_project_does_not_work_with(serve, project):
    folder = project(main__py="", pyproject__toml='[project]\nname = "x"\nversion = "1"\nrequires-python = ">=3.98"\n')
    settings = {"UV_OFFLINE": "1", "UV_PYTHON_DOWNLOADS": "never"}
    plan = planned(folder)
    report = serve.run(order("1.1", serve.project(folder), "main.py", node_env=settings, environment=plan))
    assert (report["outcome"], report["at_fault"]) == ("prepare_failed", "node")
    assert report["reason"].startswith("this node has no Python >=3.98")


def test_what_is_not_installed_is_said_in_the_log_and_beside_the_import_that_fails(serve, project):
    folder = project(main__py="import six_of_conda\n", environment__yml="dependencies:\n  - six=1.16\n")
    report = serve.run(order("1.1", serve.project(folder), "main.py", environment=planned(folder)))
    note = "environment.yml lists conda packages (six), which are not installed; put them into requirements.txt"
    assert report["reason"] == f"exit code 1; {note}"
    assert serve.out("1.1", "env.log").splitlines()[:2] == [
        "environment: no file of the project lists packages", f"note: {note}",
    ]  # fmt: skip


@needs_uv
def test_a_job_that_edits_a_package_changes_it_for_nobody_else(serve, project, settings, tmp_path):
    """Not for later jobs, not for those that run, not in uv's cache."""
    edits = "import toy_one\nopen(toy_one.__file__, 'a').write('value = 666\\n')\n"
    folder = project(main__py=SHOW, edits__py=edits, requirements__txt="toy_one==1.0\n")
    digest, plan = serve.project(folder), planned(folder)
    more = {"node_env": {**settings, "UV_CACHE_DIR": str(tmp_path / "cache")}, "environment": plan}
    for number, entry in enumerate(("main.py", "edits.py", "edits.py", "main.py"), 1):
        assert serve.run(order(f"{number}.1", digest, entry, **more))["outcome"] == "done"
    assert serve.out("4.1").startswith("1 ")
    shared = [path for path in (tmp_path / "cache").rglob("toy_one.py") if path.stat().st_nlink > 1]
    assert shared == [], "no file of the cache is in any venv"


@needs_uv
def test_a_venv_that_was_not_changed_is_used_again(serve, project, settings, home):
    script = "#!/bin/sh\ntoy-tool; [ -z $1 ] || $1\n"
    folder = project(job__sh=script, requirements__txt="toy_one==1.0\n", other__txt="toy_one==2.0\n")
    digest = serve.project(folder)
    packages = "$VIRTUAL_ENV/lib/python*/site-packages"

    def run(attempt, *args, **wanted):
        plan = planned(folder, "job.sh", **wanted)
        report = serve.run(order(attempt, digest, "job.sh", *args, node_env=settings, environment=plan))
        assert report["outcome"] == "done", report
        return "left unchanged" in serve.out(attempt, "env.log")

    assert not run("1.1")
    assert run("2.1")
    assert serve.out("2.1") == f"script of {home}/attempts/2.1/venv\n", "its scripts start its own Python"
    assert not run("3.1", kind="requirements", file="other.txt")
    changes = project(job__sh='#!/bin/sh\neval "$1"\n', requirements__txt="toy_one==1.0\n")
    other = serve.project(changes)
    for number, change in enumerate((
        f"echo x >> $(echo {packages}/toy_one.py)", f"touch $(echo {packages})/new.py", f"rm {packages}/toy_one.py",
        f"cp {packages}/toy_one.py x; mv x {packages}/toy_one.py", f"ln {packages}/toy_one.py $RACKSACK_TMP/x",
    ), 4):  # fmt: skip
        plan = planned(changes, "job.sh")
        serve.run(order(f"{number}.1", other, "job.sh", change, node_env=settings, environment=plan))
        assert "left unchanged" in serve.out(f"{number}.1", "env.log") or number > 4
        assert not run(f"{number}0.1"), change


@needs_uv
def test_venvs_that_nobody_takes_go(serve, project, settings, home):
    folder = project(main__py=SHOW, requirements__txt="toy_one==1.0\n")
    serve.run(order("1.1", serve.project(folder), "main.py", node_env=settings, environment=planned(folder)))
    [pool] = (home / "venvs").iterdir()
    [kept] = pool.iterdir()
    venv_reuse.prune(Home(str(home)))
    assert kept.exists()
    mark = kept / "racksack.json"
    mark.write_text(json.dumps({**json.loads(mark.read_text()), "made_at_s": time.time() - 7200}))
    venv_reuse.prune(Home(str(home)))
    assert listed(home / "venvs") == []


def test_indexes_count_alike_for_requirements_and_the_jobs_own_settings_reach_the_build(serve, project, tmp_path):
    uv = tmp_path / "bin" / "uv"
    uv.parent.mkdir()
    uv.write_text("#!/bin/sh\nenv | grep -E '^(UV|PIP)_' | sort >&2\nexit 1\n")
    uv.chmod(0o755)
    (serve.home / "bin").mkdir(parents=True)
    (serve.home / "bin/uv").symlink_to(uv)
    folder = project(main__py="", requirements__txt="six\n")
    env = {"PIP_INDEX_URL": "https://user:key@index.example/simple", "UV_HTTP_TIMEOUT": "9", "SEED": "1"}
    more = {"env": env, "environment": planned(folder)}
    assert serve.run(order("1.1", serve.project(folder), "main.py", **more))["outcome"] == "prepare_failed"
    said = serve.out("1.1", "env.log")
    assert "UV_INDEX_STRATEGY=unsafe-best-match" in said
    assert "UV_DEFAULT_INDEX=https://user:key@index.example/simple" in said
    assert "UV_HTTP_TIMEOUT=9" in said
    assert "SEED" not in said
    env = {"UV_INDEX_STRATEGY": "first-index"}
    serve.run(order("2.1", serve.project(folder), "main.py", env=env, environment=planned(folder)))
    assert "UV_INDEX_STRATEGY=first-index" in serve.out("2.1", "env.log")


@pytest.mark.parametrize(
    ("version", "wanted", "fits"),
    [
        ("3.11.2", "", True), ("3.11.2", ">=3.11", True), ("3.11.2", ">=3.12", False), ("3.11.2", ">=3.9,<3.11", False),
        ("3.11.2", "~=3.10", True), ("3.11.2", "~=3.10.0", False), ("3.11.2", "==3.11.*", True),
        ("3.11.2", "!=3.11.*", False), ("3.11.2", "==3.11.2", True), ("3.9.0", ">3.9", False), ("3.10.1", ">3.9", True),
        ("3.11.2", "<=3.11", False), ("3.11.2", "what is this", True),
    ],
)  # fmt: skip
def test_python_versions_that_a_project_works_with(version, wanted, fits):
    assert python_versions.fits(version, wanted) is fits


@pytest.mark.parametrize(
    ("log", "sentence"),
    [
        ("$ uv pip\n  \u00d7 No solution:\n  \u2570\u2500\u25b6 Because six==9 is\n  not there.\n\nhint: try this\n",
         "No solution: Because six==9 is not there."),
        ("$ uv\nok\n$ uv\nerror: no such thing\n", "no such thing"),
        ("$ pip\nCollecting x\nERROR: No matching distribution found for x\n", "No matching distribution found for x"),
        ("$ uv python install 3.4\nhint: pyenv has some\n", "the log says nothing"),
        ("$ x\nlast words\n", "last words"),
    ],
)  # fmt: skip
def test_why_a_build_failed(tmp_path, log, sentence):
    (tmp_path / "env.log").write_text(log)
    assert build_log.failure(str(tmp_path / "env.log")) == sentence


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
    assert installing.all_pinned(text.splitlines()) is pinned


def test_scripts_are_set_right_even_where_the_path_is_too_long_for_the_kernel(tmp_path):
    deep = tmp_path / ("x" * 120) / "bin"
    deep.mkdir(parents=True)
    (deep / "python").symlink_to(sys.executable)
    script = deep / "tool"
    script.write_text("#!/old/python\nimport sys\nprint(sys.argv[1])\n")
    script.chmod(0o755)
    (deep / "binary").write_bytes(b"\x7fELF#!/old/python")
    venv_scripts.set_script_python(str(deep), "/old/python", str(deep / "python"))
    done = subprocess.run([script, "a b"], capture_output=True, text=True, check=True)
    assert done.stdout == "a b\n"
    assert (deep / "binary").read_bytes() == b"\x7fELF#!/old/python"


def test_a_base_is_made_once(tmp_path):
    base = venvs.Base("/usr/bin/python3", "3.11.2")
    first = venvs.stable_base(str(tmp_path), base)
    assert venvs.stable_base(str(tmp_path), base) == first
    assert [path.name for path in Path(first, "bin").iterdir()] != []
    assert listed(tmp_path) == [Path(first).name]
