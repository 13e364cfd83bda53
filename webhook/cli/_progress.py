"""Progress bars on standard error, only if it is a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

#: Seconds over which the speed is measured, for the remaining time.
_SPEED_PERIOD = 3600.0


@contextmanager
def bar(description: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """Show a bar; it disappears at the end.

    Yields a function that takes the number of finished items and a text to show.
    """
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
        speed_estimate_period=_SPEED_PERIOD,
    ) as progress:
        task = progress.add_task(description, total=total)

        def advance(done: int, text: str) -> None:
            progress.update(task, completed=done, description=text)

        yield advance
