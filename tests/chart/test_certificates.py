"""Who creates the server's certificate, and how the API server gets its CA."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart import helm

CERTS = Path(__file__).parents[2] / "certs"
CONFIGURATIONS = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
MADE = ("Issuer", "Certificate", "Secret")


def tls(**values: Any) -> dict[str, Any]:
    return {"tls": values}


def bundles(rendered: helm.Rendered) -> set[str | None]:
    return {
        entry["clientConfig"].get("caBundle")
        for kind in CONFIGURATIONS
        for entry in rendered.one(kind)["webhooks"]
    }


def injected_from(rendered: helm.Rendered) -> list[dict[str, str]]:
    """cert-manager's annotations on both configurations."""
    found = (rendered.one(kind)["metadata"]["annotations"] for kind in CONFIGURATIONS)
    return [{k: v for k, v in one.items() if k.startswith("cert-manager.io/")} for one in found]


def certificate(name: str, values: dict[str, Any] | None = None) -> dict[str, Any]:
    found = helm.render(values).of_kind("Certificate")
    (spec,) = (one["spec"] for one in found if one["metadata"]["name"] == name)
    assert isinstance(spec, dict)
    return spec


def test_the_certificate_is_signed_by_a_ca_that_signs_nothing_else() -> None:
    issuers = {i["metadata"]["name"]: i["spec"] for i in helm.render().of_kind("Issuer")}
    assert issuers["mendix-mesh-selfsigned"] == {"selfSigned": {}}
    assert issuers["mendix-mesh-ca"] == {"ca": {"secretName": "mendix-mesh-ca"}}
    ca, leaf = certificate("mendix-mesh-ca"), certificate("mendix-mesh")
    assert ca["issuerRef"]["name"] == "mendix-mesh-selfsigned"
    assert ca["secretName"] == issuers["mendix-mesh-ca"]["ca"]["secretName"]
    assert ca["isCA"] is True
    assert leaf["issuerRef"]["name"] == "mendix-mesh-ca"
    assert "isCA" not in leaf


@pytest.mark.parametrize("auditor", [False, True])
def test_a_certificate_names_the_service_as_the_api_server_calls_it(auditor: bool) -> None:
    rendered = helm.render(namespace="platform", release="other")
    service = rendered.one("Service", auditor=auditor)["metadata"]
    (leaf,) = (
        found["spec"]
        for found in rendered.of_kind("Certificate")
        if helm.is_auditors(found) == auditor and "isCA" not in found["spec"]
    )
    assert leaf["dnsNames"] == [f"{service['name']}.{service['namespace']}.svc"]


def test_the_certificate_goes_where_the_server_mounts_it_from() -> None:
    rendered = helm.render(tls(secretName="our-tls"))
    volumes = rendered.one("Deployment")["spec"]["template"]["spec"]["volumes"]
    (mounted,) = (v["secret"]["secretName"] for v in volumes if v["name"] == "tls")
    assert mounted == certificate("mendix-mesh", tls(secretName="our-tls"))["secretName"]


def test_the_times_can_be_set() -> None:
    ca = {"duration": "43800h", "renewBefore": "4380h"}
    values = tls(certManager={"duration": "720h", "renewBefore": "240h", "ca": ca})
    leaf, authority = certificate("mendix-mesh", values), certificate("mendix-mesh-ca", values)
    assert (leaf["duration"], leaf["renewBefore"]) == ("720h", "240h")
    assert ca == {key: authority[key] for key in ca}


def test_an_issuer_of_ones_own_takes_the_place_of_the_charts_ca() -> None:
    values = tls(certManager={"issuerRef": {"name": "company", "kind": "ClusterIssuer"}})
    rendered = helm.render(values)
    assert [rendered.of_kind(kind) for kind in ("Issuer", "Secret")] == [[], []]
    assert rendered.one("Certificate")["spec"]["issuerRef"] == {
        "name": "company",
        "kind": "ClusterIssuer",
        "group": "cert-manager.io",
    }
    assert injected_from(rendered) == injected_from(helm.render())


def test_the_ca_can_be_taken_from_a_secret_instead() -> None:
    rendered = helm.render(tls(certManager={"caSecretName": "both"}), namespace="platform")
    annotation = {"cert-manager.io/inject-ca-from-secret": "platform/both"}
    assert injected_from(rendered) == [annotation] * 2
    assert bundles(rendered) == {None}


def test_nothing_of_cert_managers_is_needed_with_a_certificate_of_ones_own() -> None:
    rendered = helm.render(helm.OWN)
    assert [obj for kind in MADE for obj in rendered.of_kind(kind)] == []
    assert injected_from(rendered) == [{}, {}]
    assert bundles(rendered) == {helm.CA_BUNDLE}


def test_a_certificate_made_by_helm_comes_with_its_ca() -> None:
    rendered = helm.render(tls(source="helm"))
    secret = rendered.one("Secret")
    assert secret["type"] == "kubernetes.io/tls"
    assert secret["data"].keys() == {"ca.crt", "tls.crt", "tls.key"}
    assert bundles(rendered) == {secret["data"]["ca.crt"]}
    assert injected_from(rendered) == [{}, {}]
    assert rendered.of_kind("Certificate") == []


def test_the_manifests_for_those_without_helm_are_the_charts() -> None:
    listed = yaml.safe_load((CERTS / "kustomization.yaml").read_text())["resources"]
    assert {*listed, "kustomization.yaml"} == {file.name for file in CERTS.iterdir()}
    plain = [obj for name in listed for obj in yaml.safe_load_all((CERTS / name).read_text())]
    charts = [obj for obj in helm.render().objects if obj["kind"] in MADE]
    assert by_name(plain) == by_name(charts)


def by_name(objects: list[helm.Object]) -> dict[tuple[str, str], helm.Object]:
    found = {}
    for obj in objects:
        metadata = {key: value for key, value in obj["metadata"].items() if key != "labels"}
        found[obj["kind"], obj["metadata"]["name"]] = {**obj, "metadata": metadata}
    assert len(found) == len(objects)
    return found
