"""Builds the documentation site in build/docs from the pages that a Git host shows: `make site`.

It copies the pages to build/docs/pages, turns links between them into links within the site, and
runs zensical on the copy. It needs no network. The site of version 0.1.0 is in build/docs/site/0.1.
Sites of other versions that are in build/docs/site stay there; the newest is also in `latest`.
"""

import json
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

#: Fixes do not change what a version does, so all of 0.1 have one site.
MINOR = VERSION.rpartition(".")[0]
FIRST_PAGE = """<!doctype html>
<title>mendix-mesh</title>
<meta http-equiv="refresh" content="0; url=latest/index.html">
<a href="latest/index.html">mendix-mesh</a>
"""

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
    shutil.copytree(ROOT / "docs" / "theme", folder / "theme", dirs_exist_ok=True)
    for file in (ROOT / "docs").glob("*.yaml"):
        shutil.copy(file, copy)
    for path, name in pages().items():
        (copy / name).write_text(page(path), "utf-8")
    text = CONFIGURATION.read_text("utf-8").replace('"site"', f'"site/{MINOR}"')
    (folder / "zensical.toml").write_text(text, "utf-8")
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    subprocess.run(command, cwd=folder, check=True)
    _name_versions(folder / "site")


def _name_versions(site: Path) -> None:
    """Write what the version selector reads, the alias `latest` and the first page."""
    names = [path.name for path in site.iterdir() if re.fullmatch(r"\d+\.\d+", path.name)]
    newest, *older = sorted(names, key=lambda name: [int(part) for part in name.split(".")])[::-1]
    versions = [{"version": newest, "title": newest, "aliases": ["latest"]}]
    versions += [{"version": name, "title": name, "aliases": []} for name in older]
    (site / "versions.json").write_text(json.dumps(versions), "utf-8")
    shutil.rmtree(site / "latest", ignore_errors=True)
    shutil.copytree(site / newest, site / "latest")
    (site / "index.html").write_text(FIRST_PAGE, "utf-8")


if __name__ == "__main__":
    try:
        build(ROOT / "build" / "docs")
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
