"""Errors of the user's making: one line, no traceback, exit code 2."""

import click

from webhook.policy.words import printable


class BadInputError(click.ClickException):
    """Input that can't be used; the text names what, where and how to mend it."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        # It quotes files, which may say anything.
        super().__init__(printable(message))
