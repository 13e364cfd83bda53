"""The README and the guides name existing files, commands and anchors."""

import re
from pathlib import Path

import pytest

from webhook.policy import checks

ROOT = Path(__file__).parents[2]
GUIDES = sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))
CHART = "charts/mendix-mesh/README.md"
PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", CHART, *GUIDES]


def test_the_table_of_what_is_denied_names_every_check_and_no_other() -> None:
    page = (ROOT / "docs" / "concepts.md").read_text()
    table = page.partition("## What is denied\n")[2].partition("\n## ")[0]
    named = re.findall(r"\[`([a-z-]+)`\]\(checks\.md#([a-z-]+)\)", table)
    unlike = {name for name, _ in named} ^ checks.ids()
    assert not unlike, f"docs/concepts.md, What is denied: add (or remove) {unlike}"
    assert [pair for pair in named if pair[0] != pair[1]] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_within_the_project_lead_somewhere(page: str) -> None:
    place = ROOT / page
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", place.read_text())
    lost = [
        f"{file}#{anchor}"
        for file, anchor in links
        if not (target := (place.parent / file) if file else place).exists()
        or (anchor and anchor not in anchors(target))
    ]
    assert lost == []


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_make_targets_that_are_named_exist(page: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)", (ROOT / page).read_text()))
    assert named <= targets
