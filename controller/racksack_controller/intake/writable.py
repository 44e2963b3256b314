"""Whether others than its owner and the controller may write a file: then its text need not be its owner's.

A job file speaks for the user whom it belongs to. A file that others may write could be filled by them and linked or
moved into `jobs/`. Files that are made in `jobs/` inherit an ACL that opens them to owner and controller alone.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
import struct

_USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x02, 0x04, 0x08, 0x10, 0x20
_WRITE = 0o2
_HEAD, _ENTRY = struct.Struct("<I"), struct.Struct("<HHI")
_NO_ACL = frozenset({errno.ENODATA, errno.EOPNOTSUPP, errno.EPERM})


def others_may_write(descriptor: int, info: os.stat_result) -> bool:
    """Whether anybody but the file's owner, the controller and root may write it. Raises OSError."""
    try:
        acl = os.getxattr(descriptor, "system.posix_acl_access")
    except OSError as error:
        if error.errno not in _NO_ACL:
            raise
        is_shared_group = bool(info.st_mode & stat.S_IWGRP) and not _is_private_group(info)
        return bool(info.st_mode & stat.S_IWOTH) or is_shared_group
    return _opens_to_others(acl, info)


def _opens_to_others(acl: bytes, info: os.stat_result) -> bool:
    entries = [_ENTRY.unpack_from(acl, at) for at in range(_HEAD.size, len(acl) - _ENTRY.size + 1, _ENTRY.size)]
    mask = next((perm for tag, perm, _ in entries if tag == _MASK), 0o7)
    trusted = {info.st_uid, os.geteuid(), 0}
    for tag, perm, number in entries:
        if tag == _OTHER and perm & _WRITE:
            return True
        if not perm & mask & _WRITE:
            continue
        if tag == _GROUP or (tag == _USER and number not in trusted):
            return True
        if tag == _GROUP_OBJ and not _is_private_group(info):
            return True
    return False


def _is_private_group(info: os.stat_result) -> bool:
    """Whether the file's group is its owner's own, as many systems make one for each user."""
    try:
        owner, group = pwd.getpwuid(info.st_uid), grp.getgrgid(info.st_gid)
    except KeyError:
        return False
    return owner.pw_gid == group.gr_gid and group.gr_name == owner.pw_name and set(group.gr_mem) <= {owner.pw_name}
