"""`mendix-mesh completion`: print the script for shell completion."""

import click

from webhook.cli import _shells


@click.command(
    "completion",
    epilog="""Examples:

    source <(mendix-mesh completion bash)

    mendix-mesh completion zsh > ~/.zfunc/_mendix-mesh

    mendix-mesh completion fish > ~/.config/fish/completions/mendix-mesh.fish

    The kubectl plugin is completed by kubectl's own script.""",
)
@click.argument("shell", type=click.Choice(_shells.SHELLS))
@click.pass_context
def COMMAND(ctx: click.Context, shell: str) -> None:  # noqa: N802 - the name by which commands are found
    """Print the script with which a shell completes commands, options and names in the cluster.

    Load it when your shell starts, as in the examples.
    """
    click.echo(_shells.script(ctx.find_root().command, shell), nl=False)
