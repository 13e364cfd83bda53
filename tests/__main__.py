"""Every test, in parts in parallel, because those of the cluster mostly wait.

At the end, the most important ones run on the oldest supported Kubernetes, which is built first.

The output of all parts but the first is held back, and follows when all are done. The exit code is
1 if any failed.
"""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from tests.cluster import compatibility
from tests.sharing import SHARED

_CLUSTER = ["pytest", "tests/cluster"]
#: Real nodes and real proxies first, because they take long and are not divided.
_REST = ["pytest", "tests/wire", "tests/node", *sorted(
    str(folder) for folder in Path("tests").iterdir()
    if folder.name not in ("cluster", "wire", "node") and any(folder.rglob("test_*.py"))
)]  # fmt: skip
#: What each part runs. The parts share the modules: the one that is free takes the next.
_PARTS = {
    "The cluster": [_CLUSTER, _REST],
    "The cluster, another part": [_CLUSTER, _REST],
    "The rest": [_REST],
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
    stopping = threading.Event()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(len(_PARTS)) as pool:
        held = {name: Path(folder, str(number)) for number, name in enumerate(others)}
        os.environ[SHARED] = folder
        print(f"{first}:", flush=True)
        outputs = [None, *(held[name].open("w") for name in others)]
        running = [
            pool.submit(_run, commands, output, stopping)
            for commands, output in zip(_PARTS.values(), outputs, strict=True)
        ]
        try:
            codes = [part.result() for part in running]
        except KeyboardInterrupt:
            # All received Ctrl-C from the terminal. They finish their output.
            stopping.set()
            codes = [part.result() or 130 for part in running]
        for name, output in held.items():
            print(f"{name}, which ran beside it:")
            print(output.read_text(errors="replace"), end="", flush=True)
    del os.environ[SHARED]
    print(f"{_LAST}:", flush=True)
    codes.append(_run([_OLDEST], None, stopping))
    # The words of each part are far above.
    said = ("passed" if not code else f"failed (exit code {code})" for code in codes)
    print(" ".join(f"{name}: {words}." for name, words in zip((*_PARTS, _LAST), said, strict=True)))
    return int(any(codes))


def _run(commands: Sequence[list[str]], output: IO[str] | None, stopping: threading.Event) -> int:
    """Run Python modules one after the other. Return the first exit code that is not 0."""
    codes = [0]
    for arguments in commands:
        if not stopping.is_set():
            command = [sys.executable, "-m", *arguments]
            codes.append(subprocess.Popen(command, stdout=output, stderr=output).wait())
    return next(filter(None, codes), 0)


if __name__ == "__main__":
    sys.exit(main())
