"""What the agent's account can read of a folder that a job filled. Its own files and folders are opened whatever their
modes say; those of another account, such as a container leaves behind, are taken as they are.
"""

from __future__ import annotations

import os
import stat
from typing import Iterator, List, Tuple

from racksack_agent.supervisor import copying
from racksack_agent.supervisor.output_report import Gathered


def walk(root: str) -> Iterator[Tuple[os.DirEntry[str], str]]:
    """Every entry below a folder with its path relative to it, folders before what they hold. A folder that cannot be
    listed has nothing in it.
    """
    pending = [""]
    while pending:
        prefix = pending.pop()
        try:
            entries = list(os.scandir(root + "/" + prefix))
        except OSError:
            continue
        for entry in entries:
            path = prefix + entry.name
            yield entry, path
            if entry.is_dir(follow_symlinks=False):
                pending.append(path + "/")


def open_all(root: str, aside: str, gathered: Gathered) -> None:
    """Open what can be opened below `root`. If something remains that cannot be read, or a folder that cannot be
    changed, `root` is made anew without it, and the old one is moved to `aside`: such a folder cannot be taken out of
    its place. Raises OSError.
    """
    closed, all_is_ours = closed_below(root)
    if all_is_ours:
        return
    for path, owner in closed:
        gathered.drop(f"{path}: it belongs to {owner}, and the account that ran the job may not read it")
    count = 0
    while os.path.lexists(f"{aside}.{count}"):
        count += 1
    os.rename(root, f"{aside}.{count}")
    os.mkdir(root)
    _take(f"{aside}.{count}", root, "", {path for path, _ in closed})


def closed_below(root: str) -> Tuple[List[Tuple[str, str]], bool]:
    """Path and owner of the files and folders below `root` that cannot be read, after opening those that can be; and
    whether there are none, nor folders that cannot be changed.
    """
    make_readable(root, is_folder=True)
    closed = []
    all_is_ours = True
    for entry, path in walk(root):
        if entry.is_symlink():
            continue
        is_folder = entry.is_dir(follow_symlinks=False)
        if (is_folder or entry.is_file(follow_symlinks=False)) and not make_readable(entry.path, is_folder):
            closed.append((path, owner_of(entry.path)))
        elif is_folder and not os.access(entry.path, os.W_OK):
            all_is_ours = False
    return closed, all_is_ours and not closed


def make_readable(path: str, is_folder: bool) -> bool:
    """Give ourselves the rights to read, and to change a folder; whether it can be read now."""
    wanted = stat.S_IRWXU if is_folder else stat.S_IRUSR
    try:
        info = os.lstat(path)
        if info.st_uid == os.geteuid() and info.st_mode & wanted != wanted:
            os.chmod(path, stat.S_IMODE(info.st_mode) | wanted)
    except OSError:
        return False
    return os.access(path, os.R_OK | (os.X_OK if is_folder else 0))


def owner_of(path: str) -> str:
    """The name of the account that a file belongs to, or its number."""
    import pwd  # only when something is wrong: it may ask a directory service

    number = os.lstat(path).st_uid
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def _take(old: str, new: str, prefix: str, closed: set[str]) -> None:
    """Move what can be read; copy it where it lies in a folder that may not be changed."""
    for entry in os.scandir(old + "/" + prefix):
        path = prefix + entry.name
        if path in closed:
            continue
        target = new + "/" + path
        is_folder = entry.is_dir(follow_symlinks=False)
        if not is_folder or not any(one.startswith(path + "/") for one in closed):
            try:
                os.rename(entry.path, target)
                continue
            except PermissionError:
                pass
        if is_folder:
            os.mkdir(target)
            _take(old, new, path + "/", closed)
        elif entry.is_symlink():
            os.symlink(os.readlink(entry.path), target)
        elif entry.is_file(follow_symlinks=False):
            copying.copy_file(entry.path, target)
