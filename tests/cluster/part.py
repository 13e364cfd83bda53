"""Parts of the test cluster that run during a `with` block."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Self


@contextmanager
def repeated(work: Callable[[], object], *, every: float = 0.1) -> Iterator[None]:
    """Call `work` in a thread, with pauses of `every` seconds. Raise its error after the block."""
    ended = threading.Event()

    def loop() -> None:
        while not ended.wait(every):
            work()

    with ThreadPoolExecutor(1) as pool:
        task = pool.submit(loop)
        try:
            yield
        finally:
            ended.set()
    task.result()


class Part(ABC):
    """A part of the test cluster. It starts and ends with the block, even after a partial start."""

    def __enter__(self) -> Self:
        try:
            self._begin()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    @abstractmethod
    def _begin(self) -> None:
        """Start it, and wait until it is ready."""

    @abstractmethod
    def _end(self) -> None:
        """End everything that runs. This may be nothing."""
