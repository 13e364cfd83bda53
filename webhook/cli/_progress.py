"""Progress bars, on standard error alone and only where that is a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

#: Seconds over which the speed is measured that the remaining time is told by.
_SPEED_OVER = 3600.0


@contextmanager
def bar(description: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """A bar that is told how many are done, and by what words; gone when all is done."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal,
        speed_estimate_period=_SPEED_OVER,
    ) as progress:
        task = progress.add_task(description, total=total)

        def told(done: int, words: str) -> None:
            progress.update(task, completed=done, description=words)

        yield told
