"""A cgroup with the chart's memory limit, in which a server runs."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import yaml

from tests.requirements import not_run
from tests.unit.serving.server import PROGRAM

#: For version 1 and version 2: the folder of groups, the file of the limit and of the peak.
_VERSIONS = (
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.max_usage_in_bytes"),
    (Path("/sys/fs/cgroup"), "memory.max", "memory.peak"),
)


class Group:
    """A group of processes."""

    def __init__(self, folder: Path, peak: str) -> None:
        self._folder, self._peak = folder, folder / peak

    @property
    def program(self) -> tuple[str | Path, ...]:
        """The command that starts `mendix-mesh` in it."""
        enter = f'echo $$ > {self._folder}/cgroup.procs; exec "$0" "$@"'
        return ("sh", "-c", enter, *PROGRAM)

    @property
    def peak(self) -> int:
        """The most memory that was in use, in bytes."""
        return int(self._peak.read_text())


def limit() -> int:
    """Return the memory limit of the chart, in bytes."""
    values = yaml.safe_load(Path("charts/mendix-mesh/values.yaml").read_text())
    text = values["resources"]["limits"]["memory"]
    assert text.endswith("Mi")
    return int(text.removesuffix("Mi")) << 20


@contextlib.contextmanager
def limited() -> Iterator[Group]:
    """Create a group with the chart's limit. Without cgroups the test is not run."""
    for root, most, peak in _VERSIONS:
        folder = root / f"mendix-mesh-test-{os.getpid()}"
        try:
            folder.mkdir()
            (folder / most).write_text(str(limit()))
        except OSError:
            continue
        try:
            yield Group(folder, peak)
        finally:
            folder.rmdir()
        return
    not_run("no cgroup can be made here")
