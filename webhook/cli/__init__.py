"""The command line, one module a command: `COMMAND` in each is found and added by itself."""

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
    """Loads a command's module when it is used, so that each starts fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the modules beside this one that are commands."""
        return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command in the module of that name."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = import_module(f"{__name__}.{cmd_name}").COMMAND
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands, each with the first line of its module, whole: none is loaded for that."""
        with formatter.section("Commands"):
            told = ((name, _summary(name)) for name in self.list_commands(ctx))
            formatter.write_dl([(name, text[:1].upper() + text[1:]) for name, text in told])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the arguments name; one that is none is told with those there are."""
        known = self.list_commands(ctx)
        told = not ctx.resilient_parsing and not args[0].startswith("-")
        if args[0] not in known and told:
            ctx.fail(f"there is no command {args[0]}; there are: {', '.join(known)}")
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        """The commands, each with the first line of its module: none is loaded for that."""
        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        found = [CompletionItem(name, help=_summary(name)) for name in names]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; Ctrl-C ends it with the exit code that shells give it, 128 + SIGINT."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.exceptions.Exit(130) from None

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command line. Output that can't be written is one line and exit code 2.

        What the terminal's encoding lacks is shown as a question mark.
        """
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")
        if _shells.VARIABLE in os.environ:
            _shells.register()
        try:
            return super().main(*args, **{"complete_var": _shells.VARIABLE, **extra})
        except OSError as error:
            if error.filename is not None:
                raise
            # Files and sockets are caught where they are used; what is left is standard output.
            with suppress(OSError), open(os.devnull, "wb") as nothing:
                # Python would try again at its end.
                os.dup2(nothing.fileno(), 1)
                click.echo(f"Error: can't write the output: {error.strerror}", err=True)
            sys.exit(2)


def _summary(name: str) -> str:
    """What a module's first line says of its command, behind its name."""
    source = pkgutil.get_data(__name__, f"{name}.py") or b""
    return source.decode().partition("\n")[0].strip('"').partition("`: ")[2]


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="mendix-mesh")
def main() -> None:
    """Every pod in a Mendix namespace joins the service mesh, or does not start."""


def kubectl() -> None:
    """`kubectl-mendix_mesh`: the same, as kubectl calls it for `kubectl mendix-mesh`."""
    main(prog_name="kubectl mendix-mesh")


def kubectl_complete() -> None:
    """`kubectl_complete-mendix_mesh`, which kubectl asks for the plugin's completions."""
    click.echo(_shells.for_kubectl(main, sys.argv[1:]))
