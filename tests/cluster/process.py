"""Child processes that never outlive the tests, and whose errors show the end of their log."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

# The value at the start. A test of the build changes it, and the test kubelet may start a pod at
# the same time.
_PYTHON = sys.executable
# Runs in the child before the program. It asks Linux for a signal when the parent's thread ends,
# even by kill -9, and handles a parent that has already ended. It is no preexec_fn, because that
# would run Python between fork and exec of a parent with threads.
_LEASH = """
import ctypes, os, sys
death, parent, program = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
if ctypes.CDLL(None).prctl(1, death) or os.getppid() != parent:
    sys.exit("the parent is gone")
os.execv(program, sys.argv[3:])
"""


#: Programs in Go collect garbage less often: a test machine has memory, but few processors.
GO = {"GOGC": "400"}


class ProcessError(Exception):
    """Raised if a child ended unexpectedly. The message has the end of its log."""


class Process:
    """A running program whose output goes to a file.

    It is killed when the *thread* that created it ends, for any reason. It has its own session, so
    that Ctrl-C reaches only the tests, which then stop the children in order.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        death_signal: signal.Signals = signal.SIGKILL,
    ) -> None:
        """Start `argv`. The program gets `death_signal` when its parent ends.

        For a program with its own workers, use SIGTERM, so that it ends them too.
        """
        program = shutil.which(argv[0])
        if not program:
            message = f"{name} cannot be started: there is no program {argv[0]}"
            raise ProcessError(message)
        self.name = name
        self.log = log
        leash = [_PYTHON, "-I", "-S", "-c", _LEASH, str(int(death_signal)), str(os.getpid())]
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                [*leash, program, *argv[1:]],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**GO, **(os.environ if env is None else env)},
                cwd=cwd,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def returncode(self) -> int | None:
        """Return the exit code, negative for a signal; None while it runs."""
        return self._child.poll()

    def tail(self, lines: int = 20) -> str:
        """Return the last lines of the log."""
        text = self.log.read_text(errors="replace").splitlines()
        return "\n".join(text[-lines:])

    def check(self) -> None:
        """Raise ProcessError with the end of the log if the program has ended."""
        if self.returncode is not None:
            message = (
                f"{self.name} ended with code {self.returncode}; the end of {self.log}:\n"
                f"{self.tail()}"
            )
            raise ProcessError(message)

    def terminate(self) -> None:
        """Ask the program to end, and do not wait."""
        self._child.terminate()

    def stop(self, grace: float = 5.0) -> None:
        """End the program and wait. After `grace` seconds it and its workers are killed."""
        self.terminate()
        try:
            self._child.wait(grace)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        # Kill the other members of the session, if the program left any.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
