"""`mendix-mesh explain`: print the documentation of a check, a finding or a topic."""

from pathlib import Path

import click
from click.shell_completion import CompletionItem

import webhook
from webhook.policy.settings import mistakes
from webhook.policy.words import shortened

#: The documentation in the package, or in the checkout that the package runs from.
_FOLDERS = (Path(webhook.__path__[0]) / "docs", Path(webhook.__path__[0]).parent / "docs")
#: The pages whose sections are each about one check or finding.
_LISTS = ("checks", "findings")


def topics() -> dict[str, str]:
    """Return the text about each check and finding, and each page, by name."""
    folder = next((folder for folder in _FOLDERS if (folder / "checks.md").exists()), None)
    if folder is None:
        raise click.ClickException("the documentation is not installed")
    pages = {path.stem: path.read_text("utf-8") for path in sorted(folder.glob("*.md"))}
    return {name: text for page in _LISTS for name, text in _sections(pages[page])} | pages


def _sections(page: str) -> list[tuple[str, str]]:
    """Return the heading and the text of each section of the third level."""
    found = []
    for part in f"\n{page}".split("\n### ")[1:]:
        heading, _, rest = part.partition("\n")
        text = rest.partition("\n## ")[0]
        found.append((heading, f"# {heading}\n{text.rstrip()}"))
    return found


def _complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    return [CompletionItem(name) for name in topics() if name.startswith(incomplete)]


@click.command(
    "explain",
    epilog="""Examples:

    mendix-mesh explain host-network

    mendix-mesh explain rollout

    mendix-mesh explain | less""",
)
@click.argument("topic", required=False, shell_complete=_complete)
def COMMAND(topic: str | None) -> None:  # noqa: N802 - the name by which commands are found
    """Print what a check or finding means, and how to fix it, or a page of the documentation.

    Without a TOPIC, list all of them.
    """
    known = topics()
    if topic is None:
        for name, text in known.items():
            click.echo(f"{name:<24}  {shortened(_summary(text), 80)}")
    elif topic in known:
        click.echo(known[topic].rstrip())
    else:
        near = mistakes.nearest(topic, known)
        hint = f'did you mean "{near}"? ' if near else ""
        raise click.UsageError(
            f'unknown topic "{topic}"; {hint}"mendix-mesh explain" lists all topics'
        )


def _summary(text: str) -> str:
    """Return the first sentence about a check or finding, or its reason; the title of a page."""
    title, *lines = text.splitlines()
    if title[2:3].isupper():
        return title.strip("# ")
    reason = (line.partition("**: ")[2] for line in lines if line.startswith("- **Reason**"))
    return next((line for line in lines if line[:1].isalpha()), "") or next(reason, "")
