"""`make release-check`: what must hold at each commit holds, and mistakes are found."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import release
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
    assert release.license_of(given.get) == license_
