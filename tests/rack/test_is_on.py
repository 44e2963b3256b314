"""What BMCs ask of a server's power says the same as the record that the rack itself goes by."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.rack import state
from tests.rack.bmc import IS_ON
from tests.rack.state import ProcessId


def is_on(record: Path) -> bool:
    done = subprocess.run([str(IS_ON), str(record)], capture_output=True, text=True, check=False)
    assert (done.returncode in (0, 1), done.stdout, done.stderr) == (True, "", "")
    assert (done.returncode == 0) == (state.read_process(record) is not None)
    return done.returncode == 0


def test_a_server_has_power_while_its_first_process_runs(tmp_path: Path) -> None:
    record = tmp_path / "pid1.json"
    assert not is_on(record), "it was never switched on"
    # A process may call itself what it likes.
    name = "import ctypes; ctypes.CDLL(None).prctl(15, b') Z * ('); print(flush=True); input()"
    argv = [sys.executable, "-I", "-S", "-c", name]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        server.stdout.readline()
        process = ProcessId.of(server.pid)
        state.record_process(record, process)
        assert is_on(record)
        state.record_process(record, ProcessId(process.pid, process.start_ticks + 1))
        assert not is_on(record), "its number is another process's by now"
        state.record_process(record, process)
        server.kill()
        state.wait_gone(process, 20)
        assert not is_on(record), "it is dead, though nobody has waited for it"
    assert not is_on(record)
