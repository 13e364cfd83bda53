"""Prints output: tables for people, JSON or YAML for programs."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import click
import msgspec
import yaml
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from webhook.policy.words import printable

FORMATS = ("table", "json", "yaml")


class Styled(NamedTuple):
    """A cell of a table with its style."""

    text: str
    style: str = ""


class Printer:
    """Prints in one of the formats. Colors only on a terminal, and never with NO_COLOR."""

    def __init__(self, form: str) -> None:
        self._form = form
        self._console = Console(highlight=False, markup=False, soft_wrap=True)

    @property
    def is_table(self) -> bool:
        """Return whether the format is the table, which is for people."""
        return self._form == "table"

    def data(self, value: Any) -> None:
        """Print data for programs, always in UTF-8."""
        plain = msgspec.to_builtins(value)
        if self._form == "yaml":
            text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, encoding="utf-8")
            click.echo(text, nl=False)
        else:
            click.echo(msgspec.json.format(msgspec.json.encode(plain), indent=2))

    def table(self, titles: Sequence[str], rows: Sequence[Sequence[str | Styled]]) -> None:
        """Print aligned columns with titles, like kubectl."""
        cells = [[_styled(cell) for cell in row] for row in rows]
        widths = [
            max(cell_len(title), *(cell_len(row[i].text) for row in cells), 0)
            for i, title in enumerate(titles)
        ]
        for row in [[Styled(title, "dim") for title in titles], *cells]:
            padded = [
                (cell.text + " " * (width - cell_len(cell.text)), cell.style)
                for cell, width in zip(row, widths, strict=True)
            ]
            last, style = padded[-1]
            spaced = [(f"{text}  ", style) for text, style in padded[:-1]]
            self.parts(*spaced, (last.rstrip(), style))

    def parts(self, *parts: tuple[str, str]) -> None:
        """Print one line that consists of parts, each with its style."""
        self._console.print(Text.assemble(*((printable(text), style) for text, style in parts)))


def percent(coverage: int | None) -> str:
    """Return a coverage as text."""
    return "-" if coverage is None else f"{coverage}%"


def tally(numbers: Mapping[Any, int]) -> str:
    """Return the numbers that are not zero, like `3 meshed, 1 unmeshed`."""
    return ", ".join(f"{number} {what}" for what, number in numbers.items() if number)


def _styled(cell: str | Styled) -> Styled:
    text, style = (cell, "") if isinstance(cell, str) else cell
    return Styled(printable(text), style)
