"""What runs beside a test for the time of a `with` block."""

from abc import ABC, abstractmethod
from typing import Self


class Part(ABC):
    """A part of the test cluster: begun by `with`, ended with it, also where it began by half."""

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
        """Start it, and wait until it can be used."""

    @abstractmethod
    def _end(self) -> None:
        """End what runs of it, which may be nothing."""
