"""The lock files: every dependency pinned with hashes, and no address of a registry in them."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = ("dev.txt", "runtime.txt", "build.txt")
#: The program that only the tests of real traffic need is no part of the project's own.
ENVOY = "envoy.txt"
#: What only `make site` needs.
SITE = "site.txt"


def _pinned(lock: str) -> dict[str, str]:
    text = (ROOT / "requirements" / lock).read_text()
    pins = re.findall(r"^([a-z0-9][a-z0-9._-]*)==(\S+)", text, re.MULTILINE)
    return dict(pins)


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[><=! \[]", requirement)[0].lower() for requirement in requirements}


@pytest.mark.parametrize("lock", [*LOCKS, SITE, ENVOY])
def test_a_lock_names_no_address(lock: str) -> None:
    assert not re.search(
        r"https?://|--index-url|--find-links", (ROOT / "requirements" / lock).read_text()
    )


@pytest.mark.parametrize("lock", [*LOCKS, SITE, ENVOY])
def test_every_pin_has_a_hash(lock: str) -> None:
    text = (ROOT / "requirements" / lock).read_text()
    blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert blocks
    assert [block for block in blocks if "--hash=sha256:" not in block] == []


def test_the_locks_hold_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert _names(project["dependencies"]) <= _pinned("runtime.txt").keys()
    assert _names(project["dependencies"] + extras["dev"]) <= _pinned("dev.txt").keys()
    assert _names(extras["site"]) <= _pinned(SITE).keys()


@pytest.mark.parametrize("lock", LOCKS)
def test_all_locks_pin_the_same_versions(lock: str) -> None:
    assert _pinned(lock).items() <= _pinned("dev.txt").items()


def test_the_site_changes_no_version_of_the_other_locks() -> None:
    site, dev = _pinned(SITE), _pinned("dev.txt")
    assert {name: site[name] for name in site.keys() & dev.keys()}.items() <= dev.items()


def test_what_builds_the_package_is_locked_for_the_image() -> None:
    required = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert _names(required) <= _pinned("build.txt").keys()
