"""Output: for people by rich, for machines as JSON or YAML."""

from typing import Any

import click
import msgspec
import yaml
from rich.console import Console
from rich.text import Text

from webhook.policy.mistakes import printable

FORMATS = ("table", "json", "yaml")


class Printer:
    """Prints in one of the formats; colours on a terminal alone, and never with NO_COLOR."""

    def __init__(self, form: str) -> None:
        self._form = form
        self._console = Console(highlight=False, markup=False, soft_wrap=True)

    def data(self, value: Any) -> None:
        """Print data for machines: in UTF-8, whatever the terminal's encoding."""
        plain = msgspec.to_builtins(value)
        if self._form == "yaml":
            text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, encoding="utf-8")
            click.echo(text, nl=False)
        else:
            click.echo(msgspec.json.format(msgspec.json.encode(plain), indent=2))

    def parts(self, *parts: tuple[str, str]) -> None:
        """Print one line of parts, each with its style."""
        self._console.print(Text.assemble(*((printable(text), style) for text, style in parts)))
