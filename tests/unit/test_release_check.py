"""`make release-check`: what must hold at each commit holds, and mistakes are found."""

import datetime
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests import release, release_files
from webhook.version import VERSION


@pytest.mark.parametrize("check", release.ALWAYS, ids=lambda check: check.__name__)
def test_what_must_hold_at_each_commit_holds(check: Callable[[], Iterator[str]]) -> None:
    assert list(check()) == []


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        (f"## {VERSION} - 2026-11-29\n\n### Added\n", 0),
        (f"## {VERSION} - unreleased\n\n### Added\n", 0),
        ("## 99.0.0 - 2026-11-29\n", 1),
        (f"## {VERSION} - 2026-11-29\n\n### Improved\n", 1),
        ("", 1),
    ],
)
def test_changes_have_the_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, problems: int
) -> None:
    changes = tmp_path / "CHANGELOG.md"
    changes.write_text(text)
    monkeypatch.setattr(release, "CHANGES", changes)
    assert len(list(release.changes())) == problems
    assert bool(list(release.date())) == ("2026" not in text)


def test_another_version_is_found_in_each_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "VERSION", "99.1.0")
    places = [problem.partition(":")[0] for problem in release.versions()]
    assert set(places) == {"charts/mendix-mesh/Chart.yaml", "docs/install.md", "SECURITY.md"}


@pytest.mark.parametrize("license_", ["", "GPL-3.0-only", "MIT AND AGPL-3.0-only"])
def test_a_license_that_is_unknown_or_not_allowed_is_found(
    monkeypatch: pytest.MonkeyPatch, license_: str
) -> None:
    given = [release_files.Library("ours", "1", "MIT"), release_files.Library("x", "1", license_)]
    monkeypatch.setattr(release_files, "libraries", lambda: given)
    assert list(release.licenses()) == [
        f"requirements/runtime.txt: the license of x is {license_ or 'unknown'}"
    ]


@pytest.mark.parametrize("changes", ["", "[]", "- {kind: better, description: x}"])
def test_changes_for_artifact_hub_have_the_form(
    monkeypatch: pytest.MonkeyPatch, changes: str
) -> None:
    chart = release._chart()
    monkeypatch.setattr(release, "_chart", lambda: chart)
    assert list(release.chart()) == []
    chart["annotations"]["artifacthub.io/changes"] = changes
    (problem,) = release.chart()
    assert "artifacthub.io/changes" in problem


def test_the_sbom_is_valid_and_names_what_each_library_needs() -> None:
    libraries = list(release_files.libraries())
    text = release_files.sbom(libraries, datetime.datetime.now(datetime.UTC))
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    assert [one["name"] for one in bill["components"]] == [one.name for one in libraries]
    needs = {one["ref"]: set(one.get("dependsOn", ())) for one in bill["dependencies"]}
    assert {"click", "flask", "kubernetes"} <= needs["mendix-mesh"]
    assert {"jinja2", "werkzeug"} <= needs["flask"]
    # Each library is there because another one, or mendix-mesh, needs it.
    assert {one.name for one in libraries} == set().union(*needs.values())


@pytest.mark.parametrize(
    ("fields", "license_"),
    [
        ({"License-Expression": "MIT"}, "MIT"),
        ({"License": "ISC"}, "ISC"),
        (
            {"License": "a whole text", "Classifier": "License :: OSI Approved :: MIT License"},
            "MIT",
        ),
        ({}, ""),
    ],
)
def test_the_license_of_a_package_is_read(fields: dict[str, str], license_: str) -> None:
    given = {key: [value] for key, value in fields.items()}
    assert release_files.license_of(given.get) == license_
