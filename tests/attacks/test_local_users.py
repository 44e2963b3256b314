"""What another user of the machine plants under a name that we use in /tmp is not taken for ours."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from racksack_agent import private_tmp

UID = 1_999_999_983  # of nobody here
PLANTED: dict[str, Callable[[Path], object]] = {
    "a folder of somebody else": lambda path: path.mkdir(mode=0o700),
    "a link to a folder": lambda path: path.symlink_to("/tmp"),
    "a link to nowhere": lambda path: path.symlink_to("/nowhere/at/all"),
    "a file": lambda path: path.touch(),
}


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(os, "getuid", lambda: UID)
    path = Path(f"/tmp/racksack-{UID}")
    yield path
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


@pytest.mark.parametrize("what", PLANTED)
def test_a_planted_name_is_refused(place: Path, what: str) -> None:
    PLANTED[what](place)
    with pytest.raises(OSError):
        private_tmp.folder()


@pytest.mark.skipif(os.getuid() != 0, reason="gives a folder to another user, which needs root")
def test_our_own_folder_that_others_may_enter_is_refused(place: Path) -> None:
    place.mkdir()
    os.chown(place, UID, UID)
    with pytest.raises(PermissionError, match="must be a folder of this user with mode 0700"):
        private_tmp.folder()
    place.chmod(0o700)
    assert private_tmp.folder() == str(place)
