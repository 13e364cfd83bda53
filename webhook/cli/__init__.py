"""The command line. Each module without a leading underscore is a command, in its `COMMAND`."""

import codecs
import difflib
import io
import os
import pkgutil
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem

from webhook.cli import _shells
from webhook.version import VERSION


class _Commands(click.Group):
    """Loads the module of a command only when the command is used, so that each starts fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands, which are the names of their modules."""
        return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command in the module of that name; None if there is no such module."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = import_module(f"{__name__}.{cmd_name}").COMMAND
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each command with its summary. No command is loaded for this."""
        with formatter.section("Commands"):
            listed = ((name, _summary(name)) for name in self.list_commands(ctx))
            formatter.write_dl([(name, text[:1].upper() + text[1:]) for name, text in listed])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the arguments name.

        Ends with exit code 2 and the list of commands if there is no such command.
        """
        known = self.list_commands(ctx)
        is_name = not ctx.resilient_parsing and not args[0].startswith("-")
        if args[0] not in known and is_name:
            near = difflib.get_close_matches(args[0], known, n=1)
            hint = f'did you mean "{near[0]}"? Commands' if near else "commands"
            ctx.fail(f'unknown command "{args[0]}"; {hint}: {", ".join(known)}')
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        """Return the commands, each with its summary. No command is loaded for this."""
        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        found = [CompletionItem(name, help=_summary(name)) for name in names]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Ctrl-C ends it with exit code 130 (128 + SIGINT), as in shells."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.exceptions.Exit(130) from None

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command line.

        If the output can't be written, prints one line and exits with code 2. Characters that the
        terminal's encoding lacks, as with LC_ALL=C, are printed as words.
        """
        codecs.register_error("words", _in_words)
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="words")
        if _shells.VARIABLE in os.environ:
            _shells.register()
        try:
            return super().main(*args, **{"complete_var": _shells.VARIABLE, **extra})
        except OSError as error:
            if error.filename is not None:
                raise
            # Errors of files and sockets are handled by the commands, so this is standard output.
            with suppress(OSError), open(os.devnull, "wb") as nothing:
                # Else Python would try to write again when it exits.
                os.dup2(nothing.fileno(), 1)
                click.echo(f"Error: can't write the output: {error.strerror}", err=True)
            sys.exit(2)


#: What is printed for a character that an encoding lacks; for any other one a question mark.
_WORDS = {"✔": "ok", "✘": "bad", "○": "exempt", "→": "->", "…": "..."}


def _in_words(error: UnicodeError) -> tuple[str, int]:
    """Replace what an encoding lacks. This is an error handler of `codecs`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_WORDS.get(character, "?") for character in text), error.end


def _summary(name: str) -> str:
    """Return the summary of a command: the first line of its module, after the name."""
    source = pkgutil.get_data(__name__, f"{name}.py") or b""
    return source.decode().partition("\n")[0].strip('"').partition("`: ")[2]


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="mendix-mesh")
def main() -> None:
    """Make sure that every pod in a Mendix namespace joins the service mesh."""


def kubectl() -> None:
    """Run as `kubectl-mendix_mesh`, the program that `kubectl mendix-mesh` starts."""
    main(prog_name="kubectl mendix-mesh")


def kubectl_complete() -> None:
    """Run as `kubectl_complete-mendix_mesh`, the program that completes the kubectl plugin."""
    click.echo(_shells.for_kubectl(main, sys.argv[1:]))
