"""The documentation site: its navigation, and a strict build without network."""

import importlib.util
import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from docs import generate_site
from tests.requirements import not_run
from webhook.version import VERSION

TITLES = ["Home", "Quickstart", "Concepts", "Guides", "Reference", "Security"]


def _navigation() -> list[dict[str, Any]]:
    project = tomllib.loads(generate_site.CONFIGURATION.read_text())["project"]
    nav: list[dict[str, Any]] = project["nav"]
    return nav


def _files(entries: list[dict[str, Any]]) -> Iterator[str]:
    for entry in entries:
        for value in entry.values():
            yield from [value] if isinstance(value, str) else _files(value)


def test_every_page_is_in_the_navigation_once() -> None:
    assert sorted(_files(_navigation())) == sorted(generate_site.pages().values())


def test_the_navigation_has_the_sections_that_readers_look_for() -> None:
    assert [title for entry in _navigation() for title in entry] == TITLES


def test_a_link_to_a_file_that_the_site_does_not_have_is_text() -> None:
    page = generate_site.page("docs/install.md")
    assert "charts/mendix-mesh/ci has files" in page
    assert "](../" not in page


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("zensical") is None:
        not_run("zensical is missing; `make site` installs it")
    folder = tmp_path_factory.mktemp("docs")
    for older in ("0.0", "0.0.9"):  # as if published before, and a folder that is no version
        (folder / "site" / older).mkdir(parents=True)
    try:
        generate_site.build(folder)
    except subprocess.CalledProcessError as error:
        pytest.fail(f"a link of the site leads nowhere: {error}", pytrace=False)
    return folder / "site" / generate_site.MINOR


def test_it_builds_strict_with_every_page(site: Path) -> None:
    for name in generate_site.pages().values():
        assert (site / name).with_suffix(".html").stat().st_size > 0


def test_its_search_knows_every_page(site: Path) -> None:
    items = json.loads((site / "search.json").read_text())["items"]
    found = {item["location"].partition("#")[0] for item in items}
    pages = {name.removesuffix(".md") + ".html" for name in generate_site.pages().values()}
    assert pages - {"index.html"} <= found


def test_it_loads_nothing_from_another_host(site: Path) -> None:
    loads = r"<(?:script|img|iframe)[^>]*\ssrc=\"?(?:https?:)?//|<link[^>]*\shref=\"?(?:https?:)?//"
    assert [page.name for page in site.glob("*.html") if re.search(loads, page.read_text())] == []


def test_it_is_built_below_its_version_and_the_older_ones_stay(site: Path) -> None:
    assert VERSION.startswith(f"{site.name}.")
    versions = json.loads((site.parent / "versions.json").read_text())
    assert [(one["version"], one["aliases"]) for one in versions] == [
        (site.name, ["latest"]),
        ("0.0", []),
    ]
    assert (site.parent / "0.0").is_dir()


def test_its_first_page_leads_to_the_newest_version(site: Path) -> None:
    assert "url=latest/index.html" in (site.parent / "index.html").read_text()
    for name in ("index.html", "checks.html"):
        newest = (site.parent / "latest" / name).read_bytes()
        assert newest == (site / name).read_bytes()


def test_it_has_a_version_selector_and_a_notice_in_older_versions(site: Path) -> None:
    page = (site / "checks.html").read_text()
    found = re.search(r'<script id="__config"[^>]*>(.*?)</script>', page)
    assert found
    assert json.loads(found[1])["version"] == {"provider": "mike", "default": "latest"}
    assert "This page describes an older version." in page


def test_it_has_a_light_and_a_dark_look(site: Path) -> None:
    home = (site / "index.html").read_text()
    assert {"default", "slate"} <= set(re.findall(r'data-md-color-scheme="(\w+)"', home))
