"""Errors of the user's making: one line, no traceback, exit code 2; and warnings."""

import click

from webhook.policy.words import printable


class BadInputError(click.ClickException):
    """Input that can't be used; the text names what, where and how to mend it."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        # It quotes files, which may say anything.
        super().__init__(printable(message))


def warn(*lines: str) -> None:
    """Warn of each, in a line on stderr; they may quote files and the cluster, too."""
    for line in lines:
        click.echo(f"Warning: {printable(line)}", err=True)
