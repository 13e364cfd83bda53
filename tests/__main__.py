"""Every test, in parts in parallel, because those of the cluster mostly wait.

At the end, the most important ones run on the oldest supported Kubernetes, which is built first.

The output of all parts but the first is held back, and follows when the first part is done. The
exit code is 1 if any failed.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from tests.cluster import compatibility

_ROOT = Path(__file__).parents[1]
#: Every second file each, so that both parts have as much to do.
_CLUSTER = sorted(str(one.relative_to(_ROOT)) for one in _ROOT.glob("tests/cluster/test_*.py"))
_PARTS = {
    "The first half of the cluster": ["pytest", *_CLUSTER[::2]],
    "The second half of the cluster": ["pytest", *_CLUSTER[1::2]],
    "The rest": ["pytest", "tests", "--ignore=tests/cluster"],
}
_LAST = "The oldest Kubernetes"
_OLDEST = ["tests.cluster.compatibility", next(iter(compatibility.versions())), "--modules=smoke"]


def main() -> int:
    """Run all parts. Return the exit code."""
    # A shell's background jobs ignore Ctrl-C, and would hand that on to the tests.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # If this process is ended, it ends all with Ctrl-C, so that they clean up.
    signal.signal(signal.SIGTERM, lambda *_: os.killpg(0, signal.SIGINT))
    first, *others = _PARTS
    with tempfile.TemporaryDirectory() as folder:
        held = {name: Path(folder, str(number)) for number, name in enumerate(others)}
        print(f"{first}:", flush=True)
        outputs = [None, *(held[name].open("w") for name in others)]
        running = [_start(*one) for one in zip(_PARTS.values(), outputs, strict=True)]
        try:
            codes = [part.wait() for part in running]
        except KeyboardInterrupt:
            # All received Ctrl-C from the terminal. They finish their output.
            codes = [part.wait() or 130 for part in running]
        for name, output in held.items():
            print(f"{name}, which ran beside it:")
            print(output.read_text(errors="replace"), end="", flush=True)
    print(f"{_LAST}:", flush=True)
    codes.append(_start(_OLDEST).wait())
    # The words of each part are far above.
    said = ("passed" if not code else f"failed (exit code {code})" for code in codes)
    print(" ".join(f"{name}: {words}." for name, words in zip((*_PARTS, _LAST), said, strict=True)))
    return int(any(codes))


def _start(arguments: Sequence[str], output: IO[str] | None = None) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", *arguments], stdout=output, stderr=output)


if __name__ == "__main__":
    sys.exit(main())
