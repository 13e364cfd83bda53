"""The command line, one module a command: `COMMAND` in each is found and added by itself."""

import pkgutil
from importlib import import_module

import click

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


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="mendix-mesh")
def main() -> None:
    """Every pod in a Mendix namespace joins the service mesh, or does not start.

    Shell completion: eval "$(_MENDIX_MESH_COMPLETE=bash_source mendix-mesh)" (or zsh, fish).
    """
