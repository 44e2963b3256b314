"""The names in the drop folder that are to be looked at, and how much of each user is under way.

One user's flood must cost that user alone: so many names of each user are kept in mind (the others are met again by a
later look through the folder), and so many files and bytes of each are read and not settled yet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import zip_longest

from racksack_controller.intake.drop import DroppedFile, Heard, NotYet

NAMES_OF_ONE = 5000  # in mind, of one user
FILES_OF_ONE = 256  # given out and not settled, of one user
BYTES_OF_ONE = 8 * 1024**2  # of their texts


class Entry:
    """What is known about a name that is to be looked at."""

    __slots__ = ("before", "due_s", "heard", "uid")

    def __init__(self, uid: int, due_s: float) -> None:
        self.uid = uid
        self.due_s = due_s
        self.heard = Heard()
        self.before: NotYet | None = None


class Names:
    """Entries by name, bounded for each user."""

    def __init__(self) -> None:
        self._uids: dict[str, int] = {}
        self._of: dict[int, dict[str, Entry]] = {}  # by user, in the order of their appearance
        self._left_out: set[int] = set()  # users of whom there were too many

    def __len__(self) -> int:
        return len(self._uids)

    def add(self, name: str, uid: int, due_s: float) -> Entry | None:
        """The entry of a name, made where there is none; None when its user has too many in mind."""
        entry = None
        if self._uids.get(name, uid) != uid:  # another file under its name
            entry = self._remove(name)
        own = self._of.setdefault(uid, {})
        if name in own:
            return own[name]
        if len(own) >= NAMES_OF_ONE:
            self._left_out.add(uid)
            return None
        if entry is None:
            entry = Entry(uid, due_s)
        entry.uid = uid
        self._uids[name], own[name] = uid, entry
        return entry

    def remove(self, name: str) -> None:
        """Forget a name, if it is known."""
        if name in self._uids:
            self._remove(name)

    def _remove(self, name: str) -> Entry:
        uid = self._uids.pop(name)
        entry = self._of[uid].pop(name)
        if not self._of[uid]:
            del self._of[uid]
        return entry

    def due(self, now_s: float, count: int, waiting: Iterable[int] = ()) -> list[tuple[str, Entry]]:
        """Up to `count` entries whose time has come, users in turn, but for the users in `waiting`."""
        return in_turns(
            (
                (name, entry)
                for uid in self._of.keys() - set(waiting)
                for name, entry in self._due_of(uid, now_s, count)
            ),
            count,
        )

    def _due_of(self, uid: int, now_s: float, count: int) -> list[tuple[str, Entry]]:
        found = []
        for name, entry in self._of[uid].items():
            if entry.due_s <= now_s:
                found.append((name, entry))
                if len(found) == count:
                    break
        return found

    def next_due_s(self, waiting: Iterable[int] = ()) -> float | None:
        """When the next entry is due, but for the users in `waiting`."""
        users = self._of.keys() - set(waiting)
        return min((entry.due_s for uid in users for entry in self._of[uid].values()), default=None)

    def has_room_again(self) -> bool:
        """Whether a user of whom names were left out has few in mind by now; asked once, it is forgotten."""
        ready = {uid for uid in self._left_out if len(self._of.get(uid, ())) <= NAMES_OF_ONE // 2}
        self._left_out -= ready
        return bool(ready)


def in_turns(due: Iterable[tuple[str, Entry]], count: int) -> list[tuple[str, Entry]]:
    """The first `count` entries when users take turns, each user's in the order of their appearance."""
    by_user: dict[int, list[tuple[str, Entry]]] = {}
    for name, entry in due:
        own = by_user.setdefault(entry.uid, [])
        if len(own) < count:
            own.append((name, entry))
    rounds = zip_longest(*by_user.values())
    return [pair for turn in rounds for pair in turn if pair is not None][:count]


class UnderWay:
    """What was given out and is not settled, by user."""

    def __init__(self) -> None:
        self._files: Counter[int] = Counter()
        self._bytes: Counter[int] = Counter()

    def begin(self, file: DroppedFile) -> None:
        """The file is given out."""
        self._files[file.owner_uid] += 1
        self._bytes[file.owner_uid] += len(file.text)

    def end(self, file: DroppedFile) -> None:
        """The file is settled."""
        self._files[file.owner_uid] -= 1
        self._bytes[file.owner_uid] -= len(file.text)
        if self._files[file.owner_uid] <= 0:
            del self._files[file.owner_uid], self._bytes[file.owner_uid]

    def room_bytes(self, uid: int) -> int:
        """How much more of a user may be read now; 0: nothing."""
        return max(0, BYTES_OF_ONE - self._bytes[uid]) if self._files[uid] < FILES_OF_ONE else 0

    def full(self) -> list[int]:
        """The users of whom nothing more is read now."""
        return [uid for uid in self._files if not self.room_bytes(uid)]


class Listing:
    """Names of job files in the folder with their owners: the oldest of each user, gathered within bounds."""

    def __init__(self) -> None:
        self._found: dict[int, list[tuple[int, str]]] = {}

    def add(self, uid: int, changed_ns: int, name: str) -> None:
        """Note one name."""
        own = self._found.setdefault(uid, [])
        own.append((changed_ns, name))
        if len(own) >= 4 * NAMES_OF_ONE:
            own.sort()
            del own[NAMES_OF_ONE + 1 :]  # one more than is taken, so that it is known that there are more

    def oldest(self) -> dict[str, int]:
        """The owner of each name, oldest first."""
        kept = [(*pair, uid) for uid, own in self._found.items() for pair in sorted(own)[: NAMES_OF_ONE + 1]]
        return {name: uid for _, name, uid in sorted(kept)}
