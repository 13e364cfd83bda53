"""User errors, printed in one line without a traceback, with exit code 2; and warnings."""

import click

from webhook.policy.words import printable


class BadInputError(click.ClickException):
    """Invalid input. The text says what is wrong, where, and how to fix it."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        # The text may quote files, so it may contain control characters.
        super().__init__(printable(message))


def warn(*lines: str) -> None:
    """Print each warning as a line on stderr. The text may quote files and the cluster."""
    for line in lines:
        click.echo(f"Warning: {printable(line)}", err=True)
