"""`mendix-mesh explain`: print the documentation of a check, a finding or a topic."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import click
from click.shell_completion import CompletionItem

import webhook
from webhook.policy.settings import mistakes
from webhook.policy.words import shortened

#: The documentation in the package, or in the checkout that the package runs from.
_FOLDERS = (Path(webhook.__path__[0]) / "docs", Path(webhook.__path__[0]).parent / "docs")
#: The pages whose sections of the third level are each about one check or finding.
_LISTS = ("checks", "findings")
#: A heading, or a code block: a comment in one also starts with #.
_HEADING = re.compile(r"^```.*?^```|^(?P<marks>#+) (?P<text>[^\n]+)$", re.MULTILINE | re.DOTALL)
#: The fewest letters of a word that finds longer words, and of one that longer words find.
_SHORTEST, _STEM = 3, 5


class Section(NamedTuple):
    """A section of a page, with the smaller sections in it. The title's section is the page."""

    page: str
    heading: str
    level: int
    text: str

    @property
    def topic(self) -> str:
        """Return the topic that prints this section."""
        return self.page if self.level == 1 else "-".join(_words(self.heading))


def topics() -> dict[str, str]:
    """Return the text about each check and finding, and each page, by name."""
    lists = (section for section in all_sections() if section.page in _LISTS)
    # The list of a check's other examples is for the page.
    texts = {
        one.heading: f"# {one.heading}\n{one.text.partition('It also reports:')[0].rstrip()}"
        for one in lists
        if one.level == len("###")
    }
    return texts | _pages()


def sections(topic: str) -> Sequence[Section]:
    """Return the sections with this heading, or else those with its words in their heading."""
    words, found = _words(topic), list(all_sections())
    return [one for one in found if _words(one.heading) == words] or [
        one
        for one in found
        if words and all(any(_is_like(word, x) for x in _words(one.heading)) for word in words)
    ]


def _pages() -> dict[str, str]:
    folder = next((folder for folder in _FOLDERS if (folder / "checks.md").exists()), None)
    if folder is None:
        raise click.ClickException("the documentation is not installed")
    return {path.stem: path.read_text("utf-8") for path in sorted(folder.glob("*.md"))}


def all_sections() -> Iterator[Section]:
    """Yield each section of each page, in their order."""
    for name, page in _pages().items():
        found = [match for match in _HEADING.finditer(page) if match["marks"]]
        for number, match in enumerate(found):
            level = len(match["marks"])
            after = (one.start() for one in found[number + 1 :] if len(one["marks"]) <= level)
            text = page[match.end() + 1 : next(after, len(page))]
            yield Section(name, match["text"], level, text.rstrip())


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower().replace("'", ""))


def _is_like(word: str, other: str) -> bool:
    """Return whether one word begins with the other, as `exemption` with `exempt`."""
    longer = len(word) >= _SHORTEST and other.startswith(word)
    return word == other or longer or (len(other) >= _STEM and word.startswith(other))


def _complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    return [CompletionItem(name) for name in topics() if name.startswith(incomplete)]


@click.command(
    "explain",
    epilog="""Examples:

    mendix-mesh explain host-network

    mendix-mesh explain rollout

    mendix-mesh explain emergency

    mendix-mesh explain | less""",
)
@click.argument("topic", required=False, shell_complete=_complete)
def COMMAND(topic: str | None) -> None:  # noqa: N802 - the name by which commands are found
    """Print what a check or finding means, and how to fix it, or a page of the documentation.

    TOPIC can also be words of a heading: this prints the section, or lists the sections. Without a
    TOPIC, list all checks, findings and pages.
    """
    known = topics()
    if topic is None:
        for name, text in known.items():
            click.echo(f"{name:<24}  {shortened(_summary(text), 80)}")
    elif topic in known:
        click.echo(known[topic].rstrip())
    elif found := sections(topic):
        _show(topic, found, known)
    else:
        near = mistakes.nearest(topic, known)
        hint = f'did you mean "{near}"? ' if near else ""
        raise click.UsageError(
            f'unknown topic "{topic}"; {hint}"mendix-mesh explain" lists all topics'
        )


def _show(topic: str, found: Sequence[Section], known: Mapping[str, str]) -> None:
    """Print the sections if they have the same heading, else how to print each of them."""
    titles = [one for one in found if one.level == 1]
    parts = [one for one in found if one.level > 1] or titles
    if len({one.topic for one in parts}) > 1:
        click.echo(f'sections about "{topic}":')
        titles = list(found)
    else:
        for one in parts:
            text = known.get(one.topic, f"# {one.heading}\n{one.text}")
            click.echo(f"{text}\n\n(from the page: mendix-mesh explain {one.page})")
        titles = [one for one in titles if one not in parts]
    # A check comes before a section about it on another page.
    names = {one.topic: one for one in reversed(titles)}
    width = max(map(len, names), default=0)
    for name, one in reversed(names.items()):
        click.echo(f"  mendix-mesh explain {name:<{width}}  {one.heading} ({one.page}.md)")


def _summary(text: str) -> str:
    """Return the first sentence about a check or finding, or its reason; the title of a page."""
    title, *lines = text.splitlines()
    if title[2:3].isupper():
        return title.strip("# ")
    reason = (line.partition("**: ")[2] for line in lines if line.startswith("- **Reason**"))
    return next((line for line in lines if line[:1].isalpha()), "") or next(reason, "")
