"""The checks as data, from which messages, settings and documents are made."""

import pkgutil
import re

import pytest

from webhook.policy import checks, mesh, meshes
from webhook.policy.checks import Check, CheckEntry
from webhook.policy.settings import Settings

ENTRIES = sorted(checks.all_checks().items())
MESHES = {"linkerd", "istio", "ambient", "unknown"}


def test_every_module_is_a_check() -> None:
    modules = {module.name for module in pkgutil.iter_modules(checks.__path__)}
    assert {check.replace("-", "_") for check in checks.ids()} == modules


@pytest.mark.parametrize(("name", "entry"), ENTRIES, ids=[name for name, _ in ENTRIES])
def test_a_check_carries_all_that_anyone_will_ask(name: str, entry: CheckEntry) -> None:
    check = entry.check
    assert check.id == name
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", check.id)
    assert check.meshes
    assert set(check.meshes) <= MESHES
    assert check.fields
    assert all(check.fields)
    assert check.source
    assert entry.find is None or entry.find.__doc__
    assert (entry.find is None) or not check.asks
    assert not check.asks or callable(getattr(mesh.Mesh, check.asks))


@pytest.mark.parametrize(("name", "entry"), ENTRIES, ids=[name for name, _ in ENTRIES])
def test_reason_and_fix_read_as_the_halves_of_a_sentence(name: str, entry: CheckEntry) -> None:
    for text in (entry.check.reason, entry.check.fix):
        assert text == text.strip()
        assert text[0].islower()
        assert not text.endswith(".")
        assert text.isprintable()


def test_a_check_of_another_mesh_is_not_used() -> None:
    ids = {entry.check.id for entry in checks.for_mesh("unknown")}
    assert ids == {"unknown-mesh"}
    assert "unknown-mesh" not in {entry.check.id for entry in checks.for_mesh("linkerd")}
    assert checks.for_mesh("nobody") == ()


def test_every_mesh_is_loaded_by_its_name() -> None:
    loaded = meshes.load(Settings())
    assert {"linkerd", "unknown"} <= loaded.keys() <= MESHES
    assert all(mesh.name == name for name, mesh in loaded.items())


CHECK = Check(id="some-check", level="warning", meshes=("linkerd",), fields=("x",),
              reason="is so", fix="fix it", source="here")  # fmt: skip


def test_a_violation_has_the_check_s_own_words_unless_given_others() -> None:
    assert CHECK.violation(mesh.Occurrence("spec.x")).reason == "is so"
    given = CHECK.violation(mesh.Occurrence("spec.y", ("1", "2"), "is not so", "leave it", "deny"))
    assert (given.field, given.reason, given.fix) == ("spec.y", "is not so (1, 2)", "leave it")
    assert (given.level, given.values) == ("deny", ("1", "2"))


def test_a_violation_keeps_all_values_and_shows_some() -> None:
    values = tuple(str(n) for n in range(20))
    found = CHECK.violation(mesh.Occurrence("spec.x", values))
    assert found.values == values
    assert found.reason == "is so (0, 1, 2, 3, 4, 5, 6, 7, and 12 more)"
