"""How memory is limited: what is chosen where, and what is written and run for each way.

Version 2 of cgroups has no memory controller on every machine that tests run on: its files are stood in for by a
folder.
"""

from __future__ import annotations

import os

import pytest

from racksack_agent.home import Home
from racksack_agent.serve import fork_client, limit_choice
from racksack_agent.supervisor import limits


@pytest.fixture
def scope(tmp_path, monkeypatch):
    """A folder that looks like a delegated scope, and a process that seems to be in it."""
    path = "/user.slice/user@1000.service/app.slice/racksack-0123-77.scope"
    folder = tmp_path / path[1:]
    files = ("keeper/cgroup.procs", "cgroup.subtree_control", "42.1/memory.max", "42.1/memory.swap.max")
    for name in (*files, "42.1/cgroup.procs", "42.1/memory.oom.group"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    monkeypatch.setattr(limits.processes, "read_proc", lambda process, what: f"0::{path}\n".encode())
    return folder


def test_a_scope_is_divided_into_the_keeper_and_a_group_per_attempt(scope, tmp_path):
    assert limits.divide_scope(str(tmp_path)) == str(scope)
    assert (scope / "keeper/cgroup.procs").read_text() == "0"
    assert (scope / "cgroup.subtree_control").read_text() == "+memory"
    (scope / "keeper/cgroup.procs").write_text("")
    group = limits.join_limit("scope", str(scope / "42.1"), 1 << 30)
    assert isinstance(group, limits.CgroupV2)
    assert (scope / "42.1/memory.max").read_text() == str(1 << 30)
    assert (scope / "42.1/memory.swap.max").read_text() == "0"
    assert (scope / "42.1/memory.oom.group").read_text() == "1"
    assert (scope / "42.1/cgroup.procs").read_text() == "0"
    assert (scope / "keeper/cgroup.procs").read_text() == ""
    group.leave()
    assert (scope / "keeper/cgroup.procs").read_text() == "0"


def test_what_version_2_tells(scope):
    group = limits.join_limit("scope", str(scope / "42.1"), 1 << 30)
    (scope / "42.1/memory.stat").write_text("anon 1000\nfile 500000\nkernel_stack 3\nshmem 24\n")
    (scope / "42.1/memory.events").write_text("low 0\nhigh 0\nmax 3\noom 1\noom_kill 0\noom_group_kill 0\n")
    (scope / "42.1/cgroup.procs").write_text("12\n34\n")
    assert group.used_bytes(100.0) == 1024
    assert group.used_bytes(100.1) == 0, "not yet time to look again"
    assert not group.exceeded()
    (scope / "42.1/memory.events").write_text("low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\n")
    assert group.exceeded()
    assert group.left() == [12, 34]


def test_a_scope_that_is_not_ours_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(limits.processes, "read_proc", lambda process, what: b"0::/user.slice/session-1.scope\n")
    unusable = limits.divide_scope(str(tmp_path))
    limit = limits.join_limit("scope", f"{unusable}/42.1", 1 << 30)
    assert isinstance(limit, limits.Watch), "the memory is watched instead"


def test_no_limit_wanted():
    assert type(limits.join_limit("cgroup1", "/nonexistent", 0)) is limits.Limit


def test_the_fork_server_is_started_in_a_scope(tmp_path):
    choice = limit_choice.choose(Home(str(tmp_path)), "scope")
    command = choice.wrap(["python3", "x"])
    assert command[0] == "systemd-run"
    assert ("--user" in command) == (os.getuid() != 0)
    assert {"--scope", "--quiet", "--collect", "--property=Delegate=yes"} <= set(command)
    assert command[-3:] == ["--", "python3", "x"]
    assert any(word.startswith("--unit=racksack-") for word in command)
    assert fork_client.command(choice)[-2:] == ["forkserver", "--scope"]
    assert limit_choice.scope_command("u", user=True)[1] == "--user"


def test_systemd_is_tried_only_where_version_2_can_limit_memory(tmp_path, monkeypatch):
    isdir = os.path.isdir
    monkeypatch.setattr(limit_choice.os.path, "isdir", lambda path: path == "/run/systemd/system" or isdir(path))
    tool = tmp_path / "bin" / "systemd-run"
    tool.parent.mkdir()
    tool.write_text('#!/bin/sh\necho "$@" > ${0%/*}/called\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")
    assert not limit_choice.scope_works("k", str(tmp_path))
    (tmp_path / "cgroup.controllers").write_text("cpu io pids\n")
    assert not limit_choice.scope_works("k", str(tmp_path))
    (tmp_path / "cgroup.controllers").write_text("cpu io memory pids\n")
    assert limit_choice.scope_works("k", str(tmp_path))
    assert "--scope" in (tool.parent / "called").read_text()
    tool.write_text("#!/bin/sh\nexit 1\n")
    assert not limit_choice.scope_works("k", str(tmp_path))


def test_the_mount_of_version_1(tmp_path):
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n"
        "cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0\n"
    )
    assert limit_choice.memory_mount(str(mounts)) == "/sys/fs/cgroup/memory"
    mounts.write_text("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n")
    assert limit_choice.memory_mount(str(mounts)) == ""


def test_nothing_works(tmp_path, monkeypatch):
    monkeypatch.setattr(limit_choice, "memory_mount", lambda: str(tmp_path / "nonexistent" / "file"))
    monkeypatch.setattr(limit_choice, "scope_works", lambda key: False)
    (tmp_path / "nonexistent").touch()
    choice = limit_choice.choose(Home(str(tmp_path)), None)
    assert choice.kind == "watch"
    assert choice.wrap(["x"]) == ["x"]
    assert fork_client.command(choice)[-1] == "forkserver"
    assert choice.of("1.1") == {"kind": "watch", "path": ""}
