"""Builds the documentation site in build/docs from the pages that a Git host shows: `make site`.

It copies the pages to build/docs/pages, turns links between them into links within the site, and
runs zensical on the copy. It needs no network.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from webhook.version import VERSION

ROOT = Path(__file__).parents[1]
CONFIGURATION = Path(__file__).with_name("zensical.toml")

#: Pages outside docs/, by their path in the project: their names in the site.
ELSEWHERE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changes.md",
    "CONTRIBUTING.md": "contribute.md",
    "SECURITY.md": "report.md",
    "charts/mendix-mesh/README.md": "values.md",
}

_LINK = re.compile(
    r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?!https?:)(?P<file>[^)#]+)(?P<anchor>#[^)]*)?\)"
)


def pages() -> dict[str, str]:
    """Return the site's name of each page, by its path in the project."""
    inside = {f"docs/{path.name}": path.name for path in sorted((ROOT / "docs").glob("*.md"))}
    return inside | ELSEWHERE


def page(path: str) -> str:
    """Return the text of a page with the links of the site.

    A link to a file that the site does not have becomes its text, and the file's path.
    """
    names = pages()
    folder = (ROOT / path).parent

    def link(found: re.Match[str]) -> str:
        target = os.path.relpath(folder / found["file"], ROOT)
        name = names.get(target)
        if name is None and target.startswith("docs/"):
            name = target.removeprefix("docs/")
        if name is None:
            return found["text"] if found["text"] == target else f"{found['text']} (`{target}`)"
        return f"{found['image']}[{found['text']}]({name}{found['anchor'] or ''})"

    return _LINK.sub(link, (ROOT / path).read_text("utf-8"))


def build(folder: Path) -> None:
    """Build the site into FOLDER/site. Raise CalledProcessError if a link leads nowhere."""
    copy = folder / "pages"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(ROOT / "docs" / "img", copy / "img")
    for file in (ROOT / "docs").glob("*.yaml"):
        shutil.copy(file, copy)
    for path, name in pages().items():
        (copy / name).write_text(page(path), "utf-8")
    named = f'site_name = "mendix-mesh {VERSION}"'
    text = CONFIGURATION.read_text("utf-8").replace('site_name = "mendix-mesh"', named)
    (folder / "zensical.toml").write_text(text, "utf-8")
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    subprocess.run(command, cwd=folder, check=True)


if __name__ == "__main__":
    try:
        build(ROOT / "build" / "docs")
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
