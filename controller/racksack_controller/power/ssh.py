"""Shutting a server down from inside, over the node's own SSH; and who is logged in there.

It cannot switch on, and a server that does not answer is not known to be off. `run` is handed in: it carries an
argument vector to the node and raises OSError (or TimeoutError) when the node cannot be reached or the link breaks.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from racksack_controller.power import driver as contract
from racksack_controller.power.driver import ONCE, CheckReport, PowerError, PowerReading, PowerState
from racksack_controller.power.settings import SshSettings

Run = Callable[[Sequence[str]], Awaitable[tuple[int, str, str]]]

AS_ROOT = (["systemctl", "poweroff"], ["shutdown", "-h", "now"])
AS_USER = (
    ["systemctl", "--no-ask-password", "poweroff"],
    ["sudo", "-n", "systemctl", "poweroff"],
    ["sudo", "-n", "shutdown", "-h", "now"],
    ["shutdown", "-h", "now"],
)


@dataclass(frozen=True, slots=True)
class Login:
    """A person's session on a node: who, on which terminal, from where (empty: at the machine itself)."""

    user: str
    terminal: str
    origin: str


class SshDriver:
    """Soft power-off of one node by its own shell."""

    knows_state = False
    from_inside = True
    asks = ONCE

    def __init__(self, settings: SshSettings, run: Run, target: str, name: str = "ssh") -> None:
        self.name = name
        self.target = target
        self._settings = settings
        self._run = run

    async def status(self, timeout_s: float | None = None) -> PowerReading:
        """On when it answers; unknown when it does not, since a broken network looks the same."""
        try:
            await self._command(contract.STATUS, ["true"], timeout_s)
        except (contract.PowerUnreachable, contract.PowerTimedOut) as error:
            return PowerReading(PowerState.UNKNOWN, error.came_back)
        return PowerReading(PowerState.ON, "answers over SSH")

    async def on(self, timeout_s: float | None = None) -> None:
        """Not possible."""
        raise contract.cannot(self, contract.ON, "add another driver to `on`")

    async def soft_off(self, timeout_s: float | None = None) -> None:
        """The first of the ways to shut down that is allowed there.

        A connection that breaks after a command was sent is taken as obedience; the ladder looks whether it was.
        """
        _, user_id, _ = await self._command(contract.SOFT_OFF, ["id", "-u"], timeout_s)
        refusals = []
        for argv in AS_ROOT if user_id.strip() == "0" else AS_USER:
            try:
                code, stdout, stderr = await self._command(contract.SOFT_OFF, argv, timeout_s)
            except (contract.PowerUnreachable, contract.PowerTimedOut):
                return
            if code == 0:
                return
            said = (stderr.strip() or stdout.strip() or f"exit code {code}").splitlines()[0][:120]
            refusals.append(f"{' '.join(argv)}: {said}")
        raise contract.PowerNotAllowed(
            self.name,
            contract.SOFT_OFF,
            self.target,
            "; ".join(refusals),
            "allow the user one of them, for example with a sudoers line for `systemctl poweroff`",
        )

    async def hard_off(self, timeout_s: float | None = None) -> None:
        """Not possible."""
        raise contract.cannot(self, contract.HARD_OFF, "name a BMC or a PDU in `off`")

    async def watts(self, timeout_s: float | None = None) -> float | None:
        """None: a server's own sensors are not read here."""
        return None

    async def logins(self, timeout_s: float | None = None) -> tuple[Login, ...]:
        """The people logged in; raises PowerError. Panes of tmux and screen do not count: racksack's jobs are such."""
        code, stdout, stderr = await self._command("list the logins of", ["who"], timeout_s)
        if code != 0:
            raise contract.PowerNotAllowed(
                self.name, "list the logins of", self.target, stderr.strip() or f"exit code {code}", "install coreutils"
            )
        return tuple(login for line in stdout.splitlines() if (login := _parse_login(line)) is not None)

    async def check(self, timeout_s: float | None = None) -> CheckReport:
        """Whether the node answers, and which way to shut it down its user may use; shuts nothing down."""
        try:
            _, user_id, _ = await self._command("look into", ["id", "-u"], timeout_s)
            allowed = ["systemctl poweroff"] if user_id.strip() == "0" else await self._allowed_by_sudo(timeout_s)
        except PowerError as error:
            return CheckReport(self.name, self.target, problems=(str(error),))
        problem = (
            f"{self.name} could not find a way to shut down {self.target}: its user is not root and may not run "
            "`sudo -n systemctl poweroff`; add a sudoers line for it"
        )
        problems = () if allowed else (problem,)
        return CheckReport(self.name, self.target, PowerState.ON, reset_types=tuple(allowed), problems=problems)

    async def close(self) -> None:
        """Nothing is held: the connection is the node's."""

    async def _allowed_by_sudo(self, timeout_s: float | None) -> list[str]:
        allowed = []
        for argv in (["systemctl", "poweroff"], ["shutdown", "-h", "now"]):
            code, _, _ = await self._command("look into", ["sudo", "-n", "-l", *argv], timeout_s)
            if code == 0:
                allowed.append("sudo " + " ".join(argv))
        return allowed

    async def _command(self, act: str, argv: Sequence[str], timeout_s: float | None) -> tuple[int, str, str]:
        limit_s = self._settings.timeout_s if timeout_s is None else timeout_s
        try:
            return await contract.limited(self._run(argv), limit_s)
        except TimeoutError as error:
            raise contract.PowerTimedOut(
                self.name, act, self.target, f"no answer within {limit_s:g} s", "check that it is up"
            ) from error
        except OSError as error:
            raise contract.PowerUnreachable(
                self.name, act, self.target, str(error), "check that it is up and its sshd runs"
            ) from error


def _parse_login(line: str) -> Login | None:
    """A line of `who`: `user terminal date time (origin)`."""
    words = line.split()
    if len(words) < 2:
        return None
    origin = words[-1][1:-1] if words[-1].startswith("(") else ""
    if origin.startswith("tmux(") or ":S." in origin:
        return None
    return Login(words[0], words[1], origin)
