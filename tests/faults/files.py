"""The certificate's files, changed as they change in life: by the kubelet, and by hand."""

import abc
import time
from pathlib import Path

from tests.cluster.certificates import Pair
from tests.cluster.kubelet import swap

#: Seconds between two steps of a change that is not atomic, so that a server can read in between.
_PAUSE = 0.1


class Files(abc.ABC):
    """tls.crt and tls.key in a folder."""

    def __init__(self, folder: Path, pair: Pair) -> None:
        self.folder = folder
        self.folder.mkdir()
        self.replace(pair)

    @property
    def arguments(self) -> tuple[str | Path, ...]:
        """The arguments with which the server uses them."""
        cert, key = self.folder / "tls.crt", self.folder / "tls.key"
        return ("--tls-cert-file", cert, "--tls-private-key-file", key)

    @abc.abstractmethod
    def replace(self, pair: Pair) -> None:
        """Put a new pair into the place of the old one."""


class Mounted(Files):
    """A Secret as the kubelet mounts it."""

    def replace(self, pair: Pair) -> None:
        swap(self.folder, {"tls.crt": pair.cert, "tls.key": pair.key})


class Plain(Files):
    """Two files written in place, one after the other, each in two halves."""

    def replace(self, pair: Pair) -> None:
        for name, content in (("tls.crt", pair.cert), ("tls.key", pair.key)):
            file = self.folder / name
            pause = _PAUSE if file.exists() else 0
            with file.open("wb", buffering=0) as output:
                output.write(content[: len(content) // 2])
                time.sleep(pause)
                output.write(content[len(content) // 2 :])
            time.sleep(pause)
