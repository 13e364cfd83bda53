"""Write docs/commands.md from the commands' own help: `python -m docs.generate_commands`."""

import re
from collections.abc import Iterator
from pathlib import Path

import click

from webhook.cli import main as command

PAGE = Path(__file__).parent / "commands.md"

_HEAD = """\
# Commands

<!-- Written by `make docs` (docs/generate_commands.py) from the commands in webhook/cli. -->

What `mendix-mesh --help` and `mendix-mesh COMMAND --help` print. [Running pods](day-2.md) says \
when to use which command and [which rights it needs](day-2.md#rights).
"""


def page() -> str:
    """Return the whole page."""
    top = click.Context(command, info_name="mendix-mesh")
    lines = [_HEAD]
    for name in command.list_commands(top):
        one = command.get_command(top, name)
        if one is not None and not one.hidden:
            lines += _command(one, click.Context(one, info_name=name, parent=top))
    return "\n".join(lines) + "\n"


def _command(one: click.Command, context: click.Context) -> Iterator[str]:
    yield f"## {one.name}\n"
    yield f"`{' '.join([context.command_path, *one.collect_usage_pieces(context)])}`\n"
    for paragraph in _paragraphs(one.help):
        yield f"{paragraph}\n"
    texts = [text.removeprefix("Example: ") for text in _paragraphs(one.epilog)]
    examples = [text for text in texts if "mendix-mesh " in text and text[-1] != "."]
    if examples:
        yield "\n".join(("```sh", *examples, "```\n"))
    for text in texts:
        if text not in examples and text != "Examples:":
            yield f"{text}\n"
    records = [record for p in one.params if (record := p.get_help_record(context))]
    if options := [(names, text) for names, text in records if text]:
        yield "| option | |\n|---|---|"
        for names, text in options:
            yield f"| `{_cell(names)}` | {_cell(text)} |"
        yield ""


def _paragraphs(text: str | None) -> list[str]:
    """Return the paragraphs of a help text, each in one line."""
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text or "") if part.strip()]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    """Write the page."""
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
