"""Runs on the controller's machine, started over ssh: joins its stdin and stdout to the controller's socket.

The client sends this file's text with `python3 -c`, so it imports nothing of ours and needs only Python 3. The first
line it prints tells the client that everything after it comes from the controller and not from a talkative shell
profile: `racksack-relay ok`, or `racksack-relay error <errno> <what>`.
"""

import os
import socket
import sys
import threading


def main():  # type: ignore[no-untyped-def]  # noqa: ANN201, D103 - parses on any Python 3
    folder, name = os.path.split(sys.argv[1])
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.chdir(folder)  # a socket's path may have 107 bytes at most; its name alone always fits
        link.connect(name)
    except OSError as error:
        sys.stdout.write("racksack-relay error %d %s\n" % (error.errno or 0, error.strerror))  # noqa: UP031
        return
    sys.stdout.write("racksack-relay ok\n")
    sys.stdout.flush()
    threading.Thread(target=_send, args=(link,), daemon=True).start()
    while True:
        try:
            data = link.recv(65536)
        except OSError:
            return
        if not data:
            return
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def _send(link):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    while True:
        data = os.read(0, 65536)
        if not data:
            break
        link.sendall(data)
    # The client is gone. Whatever the controller still has to say would go nowhere.
    os._exit(0)


if __name__ == "__main__":
    main()  # type: ignore[no-untyped-call]
