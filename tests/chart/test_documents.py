"""The chart's texts: its README, its values, its notes, and the linter's result."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from charts import generate_readme
from tests.chart import helm

VALUES = (helm.CHART / "values.yaml").read_text()
README = (helm.CHART / "README.md").read_text()


def test_the_readme_is_current() -> None:
    assert generate_readme.readme(README, VALUES) == README, "run: python charts/generate_readme.py"


def test_every_value_is_explained_in_place() -> None:
    rows = list(generate_readme.read(VALUES))
    assert [row.key for row in rows if not row.comment] == []
    assert {row.section for row in rows} == {
        "Enrollment and mode",
        "Certificate",
        "Server",
        "Auditor",
        "Network",
        "Monitoring",
    }


def _keys(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{key}.")


def _properties(schema: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in schema.get("properties", {}).items():
        yield prefix + key
        yield from _properties(value, f"{prefix}{key}.")


def test_the_schema_knows_the_keys_of_the_values_and_no_others() -> None:
    schema = json.loads((helm.CHART / "values.schema.json").read_text())
    free = ("resources.", "auditor.resources.")
    values = {key for key in _keys(yaml.safe_load(VALUES)) if not key.startswith(free)}
    assert set(_properties(schema)) - {"global"} == values


def test_the_notes_show_the_next_step_and_the_fix() -> None:
    notes = helm.notes()
    labels = "mendix-mesh.io/mesh=linkerd mendix-mesh.io/mode=warn"
    assert f"kubectl label namespace NAMESPACE {labels}\n" in notes
    both = "validatingwebhookconfiguration/mendix-mesh mutatingwebhookconfiguration/00-mendix-mesh"
    assert notes.splitlines()[-1] == f"  kubectl delete {both}"
    assert "The mode is enforce" in notes
    assert "  mendix-mesh restart -n NAMESPACE\n" in notes
    assert "WARNING" not in notes
    assert "Enrolled by name" not in notes


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "kubectl -n mendix-mesh get certificate,pods"),
        ({"tls": {"source": "helm"}}, "WARNING: the certificate was made by Helm"),
    ],
)
def test_the_notes_say_where_the_certificate_comes_from(values: dict[str, Any], words: str) -> None:
    assert words in helm.notes(values)
    assert "ertificate" not in helm.notes(helm.OWN)


def test_the_notes_name_what_is_enrolled_by_name() -> None:
    named = [{"name": "shop", "mesh": "istio"}, {"name": "crm", "mesh": "linkerd", "mode": "warn"}]
    notes = helm.notes({"mode": "audit", "namespaces": named})
    assert "  shop: istio, audit\n  crm: linkerd, warn\n" in notes
    assert "The mode is audit" in notes


@pytest.mark.parametrize(
    ("engine", "sign", "kinds"),
    [
        ("webhook", "mendix_mesh_reviews_total", ()),
        ("policy", "mendix-mesh audit -n NAMESPACE", ("validating", "mutating")),
    ],
)
def test_the_notes_say_when_to_enforce_and_how_to_end_denials(
    engine: str, sign: str, kinds: tuple[str, ...]
) -> None:
    notes = helm.notes({"engine": engine})
    assert sign in notes.partition("Set mode enforce when")[2].partition("Running pods")[0]
    # Helm without a cluster takes a version that has both kinds.
    bindings = re.findall(r"kubectl delete (\w+)admissionpolicybindings -l (\S+)\n", notes + "\n")
    assert bindings == [(kind, "app.kubernetes.io/name=mendix-mesh") for kind in kinds]


def test_the_notes_warn_of_a_late_name() -> None:
    notes = helm.notes({"mutatingWebhookConfigurationName": "zz", "allowLateName": True})
    assert "WARNING: zz sorts after the injectors" in notes
