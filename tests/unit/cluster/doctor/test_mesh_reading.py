"""Which objects of a mesh are read, and the messages for those that can't be."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.standins.linkerd_config import InjectorConfig
from tests.standins.linkerd_values import values
from tests.unit.cluster.hospital import INJECTORS, MUTATING, Hospital
from webhook.cluster.api.errors import ClusterError
from webhook.cluster.doctor.mesh_reading import Reading, everything
from webhook.cluster.doctor.mesh_settings import document, yaml_text
from webhook.policy.settings import Istio, Settings

NEVER = {"matchLabels": {"istio.io/deactivated": "never-match"}}


def linkerd_config(hospital: Hospital, namespace: str = "linkerd", **change: Any) -> None:
    """Add the ConfigMap of Linkerd's chart."""
    text = yaml.safe_dump(values(InjectorConfig(**change)))
    hospital.config_map(namespace, "linkerd-config", values=text)


def istio_config(
    hospital: Hospital, suffix: str = "", namespace: str = "istio", **more: Any
) -> None:
    """Add the ConfigMaps of istiod's chart."""
    whole = {"global": {"hub": "docker.io/istio", "istioNamespace": namespace, **more}}
    hospital.config_map(
        namespace, f"istio-sidecar-injector{suffix}",
        values=json.dumps(whole), config="defaultTemplates: [sidecar]\n",
    )  # fmt: skip
    hospital.config_map(namespace, f"istio{suffix}", mesh="defaultConfig: {}\n")


def read(
    hospital: Hospital, folder: Path, settings: Settings | None = None
) -> tuple[dict[str, Any], list[str], list[Reading]]:
    """Return the output, the unread objects, and all of it."""
    with hospital.serving(folder) as server:
        found = everything(server.cluster, settings or Settings(), ("linkerd", "istio"))
    installed = [one.installed for one in found if one.installed]
    printed = yaml.safe_load(yaml_text(installed))["settings"]
    return printed, [str(unread) for one in found for unread in one.unread], found


def test_linkerd_is_found_where_its_injector_is_called(tmp_path: Path) -> None:
    hospital = Hospital("linkerd")
    hospital.configuration("injector", INJECTORS["linkerd"], namespace="mesh")
    linkerd_config(hospital, "mesh", control_plane_namespace="mesh")
    printed, unread, _ = read(hospital, tmp_path)
    assert (printed, unread) == ({"linkerd": {"controlPlaneNamespace": "mesh"}}, [])


def test_a_mesh_that_is_not_installed_is_not_missed(tmp_path: Path) -> None:
    hospital = Hospital("ambient")
    printed, unread, found = read(hospital, tmp_path)
    assert (printed, unread) == ({}, [])
    assert all(one.installed is None for one in found)


@pytest.mark.parametrize(
    ("mesh", "missing"),
    [("linkerd", "linkerd/linkerd-config"), ("istio", "istio/istio-sidecar-injector")],
)
def test_a_configuration_that_is_missing_beside_its_webhook_is_reported(
    tmp_path: Path, mesh: str, missing: str
) -> None:
    _, unread, _ = read(Hospital(mesh), tmp_path)
    assert unread == [f"ConfigMap {missing} could not be read: it is missing or has no values"]


@pytest.mark.parametrize("text", ["", "[1]", "{", "a: b: c", "text"])
def test_invalid_values_are_reported(tmp_path: Path, text: str) -> None:
    hospital = Hospital("linkerd")
    hospital.config_map("linkerd", "linkerd-config", values=text)
    _, unread, _ = read(hospital, tmp_path)
    assert unread == [
        "ConfigMap linkerd/linkerd-config could not be read: it is missing or has no values"
    ]


def test_what_is_forbidden_is_reported_and_the_rest_is_read(tmp_path: Path) -> None:
    hospital = Hospital("linkerd")
    linkerd_config(hospital, proxy_uid=3000)
    istio_config(hospital, namespace="istio-system", hub="registry.example.com")
    hospital.forbidden = [MUTATING, "/api/v1/namespaces/istio-system/configmaps/istio"]
    printed, unread, _ = read(hospital, tmp_path)
    assert printed == {
        "linkerd": {"proxyUid": 3000},
        "istio": {"proxyImages": ["registry.example.com/proxyv2"]},
    }
    assert [one.partition(" could not be read: User")[0] for one in unread] == [
        "MutatingWebhookConfigurations", "ConfigMap istio-system/istio",
    ]  # fmt: skip


def test_a_cluster_that_fails_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webhook.cluster.api.connection._WAIT", 0.001)
    hospital = Hospital("linkerd")
    hospital.failing = ["/api/v1/namespaces/linkerd/configmaps"]
    with pytest.raises(ClusterError):
        read(hospital, tmp_path)


def revision_of(
    hospital: Hospital, configuration: str, labels: dict[str, str], **more: Any
) -> None:
    hospital.configuration(
        configuration, INJECTORS["istio"], namespace="istio", labels=labels, **more
    )


def test_the_configuration_behind_a_tag_is_its_revisions(tmp_path: Path) -> None:
    hospital = Hospital("istio")
    revision_of(hospital, "injector", {"istio.io/rev": "1-31"})
    revision_of(hospital, "tag", {"istio.io/rev": "1-31", "istio.io/tag": "prod"})
    istio_config(hospital, "-1-31", hub="registry.example.com")
    printed, unread, _ = read(hospital, tmp_path)
    assert unread == []
    assert printed["istio"] == {
        "controlPlaneNamespace": "istio", "proxyImages": ["registry.example.com/proxyv2"],
        "revision": "prod",
    }  # fmt: skip


def test_a_revision_that_a_tag_has_taken_over_from_is_not_read(tmp_path: Path) -> None:
    hospital = Hospital("istio")
    revision_of(hospital, "injector", {"istio.io/rev": "default"}, namespaceSelector=NEVER)
    revision_of(hospital, "tag", {"istio.io/rev": "1-31", "istio.io/tag": "default"})
    istio_config(hospital, "-1-31")
    istio_config(hospital, hub="registry.example.com")
    printed, unread, _ = read(hospital, tmp_path)
    assert (printed, unread) == ({"istio": {"controlPlaneNamespace": "istio"}}, [])


def test_the_revision_that_settings_name_comes_first(tmp_path: Path) -> None:
    hospital = Hospital("istio")
    revision_of(hospital, "injector", {"istio.io/rev": "1-30"})
    revision_of(hospital, "newer", {"istio.io/rev": "1-31"})
    istio_config(hospital, "-1-30")
    istio_config(hospital, "-1-31", platform="openshift")
    settings = Settings(istio=Istio(revision="1-31"))
    *_, found = read(hospital, tmp_path, settings)
    installed = found[-1].installed
    assert installed is not None
    assert {fact.setting: fact.value for fact in installed.facts}["istio.proxyUid"] is None
    assert len(installed.notes) == 2


def test_nothing_differs_gives_an_empty_document() -> None:
    assert document([]) == {}
