"""A part of the test cluster that runs during a `with` block."""

from abc import ABC, abstractmethod
from typing import Self


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
