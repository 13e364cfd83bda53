"""Errors of the user's making: one line, no traceback, exit code 2."""

import click


class BadInputError(click.ClickException):
    """Input that can't be used; the text names what, where and how to mend it."""

    exit_code = 2
