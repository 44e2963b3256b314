"""A node behind sshd: asyncssh carries the agent's pipes, rsync over the system's ssh carries bulk.

Rules: one host key per host is accepted, the stored one; no key of the user's known_hosts, no configuration file of
ssh and nothing of the controller's environment takes part. asyncssh is imported when it is first used: it costs 0.3 s.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from racksack_controller.nodes import processes, rsync
from racksack_controller.nodes.errors import HostKeyChanged, NodeUnreachable, NodeUnusable
from racksack_controller.nodes.openssh import OpenSsh, hops
from racksack_controller.nodes.settings import SshSettings
from racksack_controller.nodes.transport import Announced, Completed

if TYPE_CHECKING:
    import asyncssh

# AES-GCM first: processors do it in hardware, which matters for an event loop that carries all nodes.
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes256-ctr")
RSA_SIGNATURES = ("rsa-sha2-512", "rsa-sha2-256")
HOST_KEY_ALGORITHMS = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    *RSA_SIGNATURES,
)
OUTPUT_BYTES_MAX = 1024**2
READ_BYTES = 64 * 1024
TRANSFERS_AT_ONCE = 4  # sshd allows ten sessions on one connection (MaxSessions)


class SshTransport:
    """A way to a host over SSH, perhaps through others."""

    by_links = False

    def __init__(self, name: str, settings: SshSettings) -> None:
        self._name = name
        self._settings = settings
        self.python = settings.python
        self.home = settings.home
        self._connections: list[asyncssh.SSHClientConnection] = []  # the node's last, its jump hosts before
        self._openssh: OpenSsh | None = None
        self._slots = asyncio.Semaphore(TRANSFERS_AT_ONCE)

    async def connect(self) -> None:
        """See Transport."""
        await self.close()
        tunnel: asyncssh.SSHClientConnection | None = None
        try:
            for alias, hop in hops(self._settings):
                what = self._name if hop is self._settings else f"{alias} of {self._name}"
                tunnel = await connect(what, hop, tunnel)
                self._connections.append(tunnel)
        except BaseException:
            await self.close()
            raise

    @property
    def _connection(self) -> asyncssh.SSHClientConnection:
        if not self._connections:
            raise NodeUnreachable(f"{self._name} is not connected.")
        return self._connections[-1]

    async def open_agent(self, argv: Sequence[str]) -> SshPipes:
        """See Transport."""
        import asyncssh

        connection = self._connection
        try:
            process = await connection.create_process("exec " + shlex.join(argv), encoding=None, send_env=(), env={})
        except (OSError, asyncssh.Error) as error:
            raise NodeUnreachable(f"{self._name} accepted the login but cannot run commands ({error}).") from error
        return SshPipes(process)

    async def push(self, source: Path, remote: str, alike: Sequence[str] = (), verify: bool = False) -> None:
        """See Transport."""
        async with self._slots:
            await rsync.push(self._bulk().rsh, self._name, source, remote, alike, verify)

    async def pull(self, remote: str, target: Path, announced: Announced, alike: Sequence[Path] = ()) -> None:
        """See Transport."""
        async with self._slots:
            await rsync.pull(self._bulk().rsh, self._name, remote, target, announced, alike)

    async def share_port(self, port: int, wanted: int) -> int:
        """See Transport."""
        import asyncssh

        connection = self._connection
        for tried in (wanted, 0):
            try:
                listener = await connection.forward_remote_port("127.0.0.1", tried, "127.0.0.1", port)
            except asyncssh.ChannelListenError:
                continue
            except (OSError, asyncssh.Error) as error:
                raise NodeUnreachable(f"{self._name} did not forward a port ({error}).") from error
            return listener.get_port()
        raise NodeUnusable(
            f"{self._name}: its sshd forwards no port, which `environment: {{index: controller}}` needs; set "
            "AllowTcpForwarding to yes or remote there."
        )

    def interactive(self, argv: Sequence[str]) -> list[str]:
        """See Transport."""
        return self._bulk().interactive(argv)

    def _bulk(self) -> OpenSsh:
        if self._openssh is None:
            try:
                self._openssh = OpenSsh(self._settings)
            except ValueError as error:
                raise NodeUnusable(f"The settings of {self._name} cannot be used: {error}.") from error
        return self._openssh

    async def run(self, argv: Sequence[str], timeout_s: float = 30.0) -> Completed:
        """See Transport."""
        import asyncssh

        connection = self._connection
        try:
            async with asyncio.timeout(timeout_s):
                process = await connection.create_process(shlex.join(argv), encoding=None, send_env=(), env={})
                try:
                    stdout, stderr = await asyncio.gather(_bounded(process.stdout), _bounded(process.stderr))
                    await process.wait_closed()
                finally:
                    process.close()
        except TimeoutError:
            raise NodeUnreachable(f"{self._name}: {argv[0]} did not end within {timeout_s:g} s.") from None
        except _PrintsWithoutEnd:
            raise NodeUnreachable(f"{self._name}: {argv[0]} prints endlessly.") from None
        except (OSError, asyncssh.Error) as error:
            raise NodeUnreachable(f"The connection to {self._name} broke while {argv[0]} ran ({error}).") from error
        return Completed(process.exit_status if process.exit_status is not None else -1, stdout, stderr)

    async def close(self) -> None:
        """See Transport."""
        connections, self._connections = self._connections, []
        for connection in reversed(connections):
            connection.abort()
        if self._openssh is not None:
            bulk, self._openssh = self._openssh, None
            await bulk.close()


async def connect(
    what: str, settings: SshSettings, tunnel: asyncssh.SSHClientConnection | None = None
) -> asyncssh.SSHClientConnection:
    """One connection to one host. Raises NodeUnreachable, HostKeyChanged, NodeUnusable."""
    import asyncssh

    where = f"{what} ({settings.address})"
    pinned = _pinned_key(where, settings)
    shown: list[str] = []

    class Client(asyncssh.SSHClient):
        """Notes which key was shown instead of the pinned one; accepts none."""

        def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
            shown.append(key.get_fingerprint())
            return False

    try:
        async with asyncio.timeout(settings.connect_timeout_s):
            return await asyncssh.connect(
                settings.host,
                settings.port,
                tunnel=tunnel or (),
                config=None,
                client_factory=Client,
                known_hosts=([pinned], [], []),
                x509_trusted_certs=None,
                server_host_key_algs=_host_key_algorithms(pinned),
                username=settings.user,
                preferred_auth="publickey",
                encryption_algs=CIPHERS,
                compression_algs=("none",),
                keepalive_interval=settings.keepalive_s,
                keepalive_count_max=3,
                connect_timeout=settings.connect_timeout_s,
                login_timeout=settings.connect_timeout_s,
                **_identity(where, settings),
            )
    except TimeoutError:
        raise NodeUnreachable(
            f"{where} did not answer within {settings.connect_timeout_s:g} s; is it on, and reachable from here?"
        ) from None
    except asyncssh.HostKeyNotVerifiable as error:
        raise _changed(where, what, pinned, shown[0] if shown else str(error)) from error
    except asyncssh.PermissionDenied as error:
        raise NodeUnusable(
            f"{where} refused the login; add the controller's public key to that user's ~/.ssh/authorized_keys there."
        ) from error
    except (OSError, asyncssh.Error) as error:
        raise NodeUnreachable(f"{where} cannot be reached ({_reason(error)}).") from error


def _pinned_key(where: str, settings: SshSettings) -> asyncssh.SSHKey:
    import asyncssh

    if not settings.host_key:
        raise NodeUnusable(f"No host key is stored for {where}; run `racksack node trust` to see and store it.")
    try:
        return asyncssh.import_public_key(settings.host_key)
    except (ValueError, asyncssh.KeyImportError) as error:
        raise NodeUnusable(
            f"The stored host key of {where} cannot be read ({error}); write it as in `ssh-ed25519 AAAA...`."
        ) from error


def _host_key_algorithms(pinned: asyncssh.SSHKey) -> list[str]:
    """The pinned key's first, so that a host with several shows that one; then all others, to see a changed one."""
    kind = pinned.algorithm.decode()
    own = list(RSA_SIGNATURES) if kind == "ssh-rsa" else [kind]
    return own + [other for other in HOST_KEY_ALGORITHMS if other not in own]


def _identity(where: str, settings: SshSettings) -> dict[str, Any]:
    """Asyncssh's options for the key to log in with: the configured one alone, or the user's usual ones."""
    import asyncssh

    if settings.identity is None:
        return {}
    path = settings.identity.expanduser()
    try:
        return {"client_keys": [asyncssh.read_private_key(path)], "agent_path": None}
    except OSError as error:
        raise NodeUnusable(f"The key {path} for {where} cannot be read ({error.strerror}).") from error
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise NodeUnusable(
            f"The key {path} for {where} cannot be used ({error}); it must have no passphrase."
        ) from error


def _changed(where: str, what: str, pinned: asyncssh.SSHKey, shown: str) -> HostKeyChanged:
    return HostKeyChanged(
        f"{where} shows the host key {shown}, but {pinned.get_fingerprint()} is stored; nothing was sent to it. If the "
        f"machine was installed anew, run `racksack node trust {what}` and compare the key it shows; otherwise "
        "somebody may be in between."
    )


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


class _PrintsWithoutEnd(Exception):  # noqa: N818 - told apart from the others, never shown
    """A program there printed more than is kept of any."""


async def _bounded(stream: asyncssh.SSHReader[bytes]) -> bytes:
    """All of a stream. Raises _PrintsWithoutEnd for one of over OUTPUT_BYTES_MAX."""
    kept = b""
    while data := await stream.read(READ_BYTES):
        kept += data
        if len(kept) > OUTPUT_BYTES_MAX:
            raise _PrintsWithoutEnd
    return kept


class SshPipes:
    """The pipes of a process on the node."""

    def __init__(self, process: asyncssh.SSHClientProcess[bytes]) -> None:
        self._process = process
        self._words = asyncio.create_task(_tail(process))

    async def read(self, limit: int) -> bytes:
        """See Pipes."""
        import asyncssh

        try:
            return await self._process.stdout.read(limit)
        except asyncssh.Error as error:
            raise ConnectionResetError(str(error)) from error

    def write(self, data: bytes) -> None:
        """See Pipes."""
        self._process.stdin.write(data)

    async def drain(self) -> None:
        """See Pipes."""
        import asyncssh

        try:
            await self._process.stdin.drain()
        except asyncssh.Error as error:
            raise ConnectionResetError(str(error)) from error

    async def last_words(self) -> tuple[int | None, str]:
        """See Pipes."""
        try:
            async with asyncio.timeout(1.0):
                words = await asyncio.shield(self._words)
                await self._process.wait_closed()
        except TimeoutError:
            return None, ""
        return self._process.exit_status, processes.last_line(words)

    def close(self) -> None:
        """See Pipes."""
        self._process.stdin.write_eof() if not self._process.is_closing() else None
        self._process.close()


async def _tail(process: asyncssh.SSHClientProcess[bytes]) -> bytes:
    import asyncssh

    kept = b""
    try:
        while data := await process.stderr.read(4096):
            kept = (kept + data)[-4096:]
    except (OSError, asyncssh.Error):
        pass  # the connection broke, which the reader of stdout reports
    return kept
