"""`make release-check`: whether this commit can be released.

It checks the version wherever it stands, the changes, the chart's metadata and the licenses of the
libraries in the image. Then it writes the files of the release: see tests.release_files.
"""

import datetime
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests import release_files
from webhook.version import VERSION

ROOT = Path(__file__).parents[1]
CHANGES = ROOT / "CHANGELOG.md"
CATEGORIES = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
#: Licenses under which the image can be passed on. The image has each library with its license.
LICENSES = ("MIT", "MIT-0", "BSD-2-Clause", "BSD-3-Clause", "Apache-2.0", "ISC", "PSF-2.0",
            "MPL-2.0")  # fmt: skip
#: The kinds of changes that Artifact Hub knows are our categories in lower case.
KINDS = {category.lower() for category in CATEGORIES}
#: What Artifact Hub and `helm show chart` show. Addresses are missing until they exist.
METADATA = ("description", "keywords", "kubeVersion", "appVersion")
ADDRESSES = ("home", "sources", "maintainers")


def versions() -> Iterator[str]:
    """Yield each place that has another version than the package."""
    chart = _chart()
    for key in ("version", "appVersion"):
        if str(chart[key]) != VERSION:
            yield f"charts/mendix-mesh/Chart.yaml: {key} is {chart[key]}, not {VERSION}"
    text = (ROOT / "docs" / "install.md").read_text()
    for found in sorted({*re.findall(r"mendix-mesh:(\d[\w.]*)|`v(\d[\w.]*)`", text)}):
        named = found[0] or found[1]
        if named != VERSION:
            yield f"docs/install.md: names the version {named}, not {VERSION}"
    minor = ".".join(VERSION.split(".")[:2])
    if f"| {minor} | yes |" not in (ROOT / "SECURITY.md").read_text():
        yield f"SECURITY.md: add {minor} to the supported versions"


def changes() -> Iterator[str]:
    """Yield what is wrong with the form of the changes."""
    text = CHANGES.read_text()
    sections = re.findall(r"^## (.+)$", text, re.MULTILINE)
    if not sections or sections[0].split(" - ")[0] != VERSION:
        yield f"CHANGELOG.md: the first section is not {VERSION}"
    for category in re.findall(r"^### (.+)$", text, re.MULTILINE):
        if category not in CATEGORIES:
            yield f"CHANGELOG.md: unknown category {category}; allowed: {', '.join(CATEGORIES)}"


def date() -> Iterator[str]:
    """Yield what is wrong with the date of the newest changes."""
    newest = re.findall(r"^## \S+ - (.+)$", CHANGES.read_text(), re.MULTILINE)[:1]
    try:
        datetime.date.fromisoformat(newest[0] if newest else "")
    except ValueError:
        yield f"CHANGELOG.md: write the day of the release: ## {VERSION} - YYYY-MM-DD"


def chart() -> Iterator[str]:
    """Yield the metadata that the chart lacks."""
    found = _chart()
    for key in METADATA:
        if not found.get(key):
            yield f"charts/mendix-mesh/Chart.yaml: {key} is missing"
    for key in ("license", "category"):
        if f"artifacthub.io/{key}" not in found["annotations"]:
            yield f"charts/mendix-mesh/Chart.yaml: the annotation artifacthub.io/{key} is missing"
    listed = yaml.safe_load(found["annotations"].get("artifacthub.io/changes", "[]"))
    if not listed or any(one["kind"] not in KINDS or not one["description"] for one in listed):
        kinds = ", ".join(sorted(KINDS))
        yield (
            "charts/mendix-mesh/Chart.yaml: the annotation artifacthub.io/changes needs a list of "
            f"changes, each with a kind ({kinds}) and a description"
        )


def addresses() -> Iterator[str]:
    """Yield the addresses that the chart lacks, because nothing is published yet."""
    found = _chart()
    for key in ADDRESSES:
        if not found.get(key):
            yield f"charts/mendix-mesh/Chart.yaml: {key} is missing"


def licenses() -> Iterator[str]:
    """Yield each library of the image whose license is unknown or not allowed."""
    for one in release_files.libraries():
        names = re.split(r" (?:AND|OR) ", one.license)
        if not set(names) <= set(LICENSES):
            why = one.license or "unknown"
            yield f"requirements/runtime.txt: the license of {one.name} is {why}"


def _chart() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / "charts/mendix-mesh/Chart.yaml").read_text())
    return content


#: What must hold at each commit, and what only a release needs.
ALWAYS = (versions, changes, chart, licenses)
RELEASE = (date, addresses)


def main() -> None:
    """Print what is missing, and write the files. Exit with code 1 if something is missing."""
    for line in release_files.write(ROOT / "build" / "release"):
        print(f"• build/release/{line}")
    wrong = [problem for check in (*ALWAYS, *RELEASE) for problem in check()]
    for problem in wrong:
        print(f"✘ {problem}")
    if wrong:
        sys.exit(1)
    print(f"✔ {VERSION} can be released: versions, changes, chart and licenses are in order")


if __name__ == "__main__":
    main()
