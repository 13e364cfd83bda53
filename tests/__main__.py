"""Every test, in two halves in parallel, because those of the cluster mostly wait.

The output of the second half is held back, and follows when the first half is done. The exit code
is 1 if either failed.
"""

import os
import signal
import subprocess
import sys
import tempfile

_PYTEST = (sys.executable, "-m", "pytest")
_CLUSTER, _OTHERS = ("tests/cluster",), ("tests", "--ignore=tests/cluster")


def main() -> int:
    """Run both. Return the exit code."""
    # If this process is ended, it ends both with Ctrl-C, so that they clean up.
    signal.signal(signal.SIGTERM, lambda *_: os.killpg(0, signal.SIGINT))
    with tempfile.TemporaryFile("w+", errors="replace") as held:
        print("Half of them, on the cluster:", flush=True)
        with subprocess.Popen([*_PYTEST, *_OTHERS], stdout=held, stderr=held) as others:
            try:
                first = subprocess.run([*_PYTEST, *_CLUSTER], check=False).returncode
                print("And the other half, which ran beside it:", flush=True)
                second = others.wait()
            except KeyboardInterrupt:
                # Both received Ctrl-C from the terminal. They finish their output.
                first, second = 130, others.wait()
        held.seek(0)
        for line in held:
            sys.stdout.write(line)
    # The first half's own words are far above.
    said = ("passed" if not code else f"failed (exit code {code})" for code in (first, second))
    print("On the cluster: {}. The other half: {}.".format(*said))
    return int(bool(first or second))


if __name__ == "__main__":
    sys.exit(main())
