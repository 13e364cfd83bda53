"""Values that the chart rejects, and whether the message says what to change."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.chart import helm


def test_an_empty_ca_is_rejected_with_the_ways_to_get_one() -> None:
    message = helm.error_of({"tls": {"source": "secret", "secretName": "our-tls"}})
    for part in ("tls.caBundle", "Secret our-tls", "--set-file", "tls.source: certManager"):
        assert part in message


NETWORK = {"enabled": True, "apiServerCIDRs": ["10.0.0.0/8"]}
TWICE = [{"name": "shop", "mesh": "linkerd"}, {"name": "shop", "mesh": "istio"}]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        *(({"tls": {"source": "secret", "caBundle": given}},
           ["tls.caBundle: it is neither a PEM certificate nor the base64 of one"])
          for given in ("nonsense", "bm9uc2Vuc2U=")),
        *(({"tls": {"source": source, "caBundle": helm.CA}},
           [f"tls.caBundle: with tls.source: {source} the CA comes from there",
            "set tls.source: secret"])
          for source in ("certManager", "helm")),
        *(({"tls": {"source": source, "certManager": {key: value}}},
           [f"tls.certManager.{key}",
            f"it has no effect with tls.source: {source}; set tls.source: certManager"])
          for source in ("secret", "helm")
          for key, value in (("issuerRef", {"name": "company"}), ("caSecretName", "company-ca"))),
        *(({"tls": {"certManager": times}}, [words]) for times, words in (
            ({"renewBefore": "2160h"}, "tls.certManager.renewBefore: 2160h is not shorter than"),
            ({"ca": {"duration": "8760h"}}, "tls.certManager.ca.renewBefore: 8760h is not shorter"),
            ({"ca": {"renewBefore": "2159h"}},
             "tls.certManager.ca.renewBefore: 2159h is shorter than"),
            ({"duration": "8761h"},
             "the CA could expire before the last certificate that it signed"),
        )),
        ({"namespaces": TWICE}, ["namespaces: shop is listed more than once; keep one entry"]),
        *(({"mutatingWebhookConfigurationName": name},
           [f"mutatingWebhookConfigurationName: {name} sorts after", "00-mendix-mesh",
            "allowLateName"])
          for name in ("istio-a", "istio-zz", "linkerd-a", "mendix-mesh", "zz")),
        ({"hostNetwork": True}, ["port: with hostNetwork the kubelet already uses 10250"]),
        *(({"port": port}, [f"port: the auditor already uses {port} for HTTP"])
          for port in (8080, 8081)),
        ({"auditor": {"tlsSecretName": "mendix-mesh-tls"}},
         ["auditor.tlsSecretName: the chart writes another certificate into the Secret mendix"]),
        ({"clientCertificates": {"caSecretName": "a", "caConfigMapName": "b"}},
         ["clientCertificates: caSecretName and caConfigMapName are both set; keep the one"]),
        ({"clientCertificates": {"names": ["kube-apiserver"]}},
         ["clientCertificates.names: without a CA no certificate is"]),
        ({"networkPolicy": {"enabled": True}},
         ["networkPolicy.apiServerCIDRs: it is empty, so the API server could not call"]),
        ({"networkPolicy": {"apiServerCIDRs": ["10.0.0.0/8"]}},
         ["networkPolicy: it names peers, but is not enabled; set networkPolicy.enabled: true"]),
        ({"networkPolicy": NETWORK, "hostNetwork": True, "port": 10260},
         ["networkPolicy.enabled: policies do not apply to pods on their nodes' network"]),
        ({"tls": {"source": "secret"}, "hostNetwork": True,
          "mutatingWebhookConfigurationName": "zz"},
         ["\n  tls.caBundle: ", "\n  port: ", "\n  mutatingWebhookConfigurationName: "]),
        ({"mode": "strict"}, ["at '/mode': value must be one of 'enforce', 'warn', 'audit'"]),
    ],
)  # fmt: skip
def test_values_that_cannot_work_are_rejected_with_what_to_change(
    values: dict[str, Any], words: list[str]
) -> None:
    message = helm.error_of(values)
    assert [part for part in words if part not in message] == []


def test_the_times_of_the_charts_ca_do_not_matter_if_another_signs() -> None:
    other = {"issuerRef": {"name": "company"}, "duration": "8761h"}
    helm.render({"tls": {"certManager": other}})


EXCLUDED = {
    "kube-system": "(always excluded); remove it from {key}\n",
    "kube-node-lease": "(always excluded); remove it from {key}\n",
    "mendix-mesh": "(the release's own); remove it from {key}\n",
    "linkerd": "(listed in meshNamespaces); remove it from {key}, or from meshNamespaces\n",
    "istio-system": "(listed in meshNamespaces); remove it from {key}, or from meshNamespaces\n",
    "cert-manager": (
        "(listed in excludedNamespaces); remove it from {key}, or from excludedNamespaces\n"
    ),
}


@pytest.mark.parametrize(
    ("key", "listed"),
    [
        ("namespaces", lambda name: {"namespaces": [{"name": name, "mesh": "linkerd"}]}),
        ("ingress.namespaces", lambda name: {"ingress": {"namespaces": [name]}}),
    ],
)
@pytest.mark.parametrize(("name", "fix"), EXCLUDED.items())
def test_a_namespace_that_is_listed_must_not_be_excluded_too(
    key: str, listed: Callable[[str], helm.Values], name: str, fix: str
) -> None:
    message = helm.error_of(listed(name))
    assert f"{key}: the namespace {name} is never reviewed" in message
    assert fix.format(key=key) in message


def test_a_grace_period_that_cuts_off_open_requests_is_rejected() -> None:
    message = helm.error_of({"terminationGracePeriodSeconds": 19})
    assert (
        "terminationGracePeriodSeconds: it must be at least 20, the sum of preStopSleepSeconds, "
        in message
    )
    helm.render({"terminationGracePeriodSeconds": 20})
    longer = {"drainSeconds": 31}
    assert "it must be at least 46" in helm.error_of(longer)
    helm.render({**longer, "terminationGracePeriodSeconds": 46})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"mode": "strict"}, 'mode: "strict" is not a mode; set it to one of enforce, warn, audit'),
        ({"tls": {"source": "none"}}, 'tls.source: "none" is not a source; set it to one of'),
        (
            {"namespaces": [{"name": "shop", "mesh": "linkred"}]},
            'namespaces: shop has the mesh "linkred"; set it to one of linkerd, istio, ambient',
        ),
        (
            {"namespaces": [{"name": "shop", "mesh": "linkerd", "mode": "wran"}]},
            'namespaces: shop has the mode "wran"; set it to one of enforce, warn, audit',
        ),
    ],
)
def test_what_would_leave_pods_unreviewed_is_rejected_even_without_the_schema(
    values: dict[str, Any], words: str
) -> None:
    assert words in helm.error_of(values, schema=False)


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"replicas": 2}, "''"),
        ({"image": {"name": "x"}}, "'/image'"),
        ({"tls": {"caBundle": helm.CA, "ca": "x"}}, "'/tls'"),
        ({"tls": {"certManager": {"enabled": True}}}, "'/tls/certManager'"),
        ({"clientCertificates": {"caSecret": "x"}}, "'/clientCertificates'"),
        ({"networkPolicy": {"cidrs": []}}, "'/networkPolicy'"),
        ({"networkPolicy": {"from": [{"cidr": "10.0.0.0/8"}]}}, "'/networkPolicy/from/0'"),
        ({"serviceMonitor": {"insecure": True}}, "'/serviceMonitor'"),
        ({"prometheusRule": {"alerts": []}}, "'/prometheusRule'"),
        ({"ingress": {"namespace": ["x"]}}, "'/ingress'"),
        ({"podDisruptionBudget": {"minAvailable": 1}}, "'/podDisruptionBudget'"),
        ({"namespaces": [{"name": "x", "mesh": "istio", "modus": "warn"}]}, "'/namespaces/0'"),
        ({"imagePullSecrets": [{"name": "x", "key": "y"}]}, "'/imagePullSecrets/0'"),
    ],
)
def test_an_unknown_key_is_rejected_with_its_place(values: dict[str, Any], where: str) -> None:
    message = helm.error_of(values)
    assert f"at {where}: additional properties" in message


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"replicaCount": 0}, "/replicaCount"),
        ({"replicaCount": 101}, "/replicaCount"),
        ({"preStopSleepSeconds": 601}, "/preStopSleepSeconds"),
        ({"terminationGracePeriodSeconds": 3601}, "/terminationGracePeriodSeconds"),
        ({"auditor": {"interval": 86401}}, "/auditor/interval"),
        ({"ipFamily": "ipv6"}, "/ipFamily"),
        ({"runAsUser": 2**31}, "/runAsUser"),
        ({"settings": {"linkerd": {"proxyUid": 2**31}}}, "/settings/linkerd/proxyUid"),
        ({"settings": {"linkerd": {"inboundPort": 65536}}}, "/settings/linkerd/inboundPort"),
        ({"resources": {"limits": {"memory": "256 Mi"}}}, "/resources/limits/memory"),
        ({"resources": {"limits": {"memory": "256mb"}}}, "/resources/limits/memory"),
        ({"resources": {"requests": {"cpu": -1}}}, "/resources/requests/cpu"),
        (
            {"auditor": {"resources": {"requests": {"cpu": True}}}},
            "/auditor/resources/requests/cpu",
        ),
        ({"image": {"tag": "a b"}}, "/image/tag"),
        ({"priorityClassName": "System Critical"}, "/priorityClassName"),
        ({"tls": {"secretName": ""}}, "/tls/secretName"),
        ({"timeoutSeconds": 31}, "/timeoutSeconds"),
        ({"timeoutSeconds": "5s"}, "/timeoutSeconds"),
        ({"port": 70000}, "/port"),
        ({"runAsUser": 0}, "/runAsUser"),
        ({"logLevel": "loud"}, "/logLevel"),
        ({"dnsPolicy": "None"}, "/dnsPolicy"),
        ({"drainSeconds": -1}, "/drainSeconds"),
        ({"networkPolicy": {"apiServerCIDRs": ["10.0.0.1"]}}, "/networkPolicy/apiServerCIDRs/0"),
        ({"serviceMonitor": {"interval": "30"}}, "/serviceMonitor/interval"),
        ({"settings": []}, "/settings"),
        ({"image": {"digest": "sha256:abc"}}, "/image/digest"),
        ({"namespaces": [{"name": "shop"}]}, "/namespaces/0"),
        ({"namespaces": [{"name": "shop", "mesh": "linkred"}]}, "/namespaces/0/mesh"),
        ({"namespaces": [{"name": "Shop", "mesh": "linkerd"}]}, "/namespaces/0/name"),
        ({"ingress": {"namespaces": ["a", "a"]}}, "/ingress/namespaces"),
        ({"mutatingWebhookConfigurationName": "00_mesh"}, "/mutatingWebhookConfigurationName"),
        ({"podLabels": {"a": 1}}, "/podLabels/a"),
        ({"mode": None}, ""),
        ({"tls": {"source": "cert-manager"}}, "/tls/source"),
        ({"tls": {"certManager": {"duration": "90d"}}}, "/tls/certManager/duration"),
        (
            {"tls": {"certManager": {"ca": {"renewBefore": "0h"}}}},
            "/tls/certManager/ca/renewBefore",
        ),
    ],
)
def test_a_value_of_the_wrong_shape_is_rejected_with_its_place(
    values: dict[str, Any], where: str
) -> None:
    assert f"at '{where}':" in helm.error_of(values)


@pytest.mark.parametrize("schema", [True, False])
def test_without_an_image_the_message_says_how_to_get_one(schema: bool) -> None:
    """Also without any value, as a user begins."""
    error = helm.error_of({"image": {"repository": ""}}, schema=schema)
    assert "image.repository: it is empty, and there is no public image" in error
    assert "docs/install.md, section Image" in error
    assert "set image.repository=REGISTRY/mendix-mesh" in error
    assert "\n## Image\n" in (helm.CHART.parents[1] / "docs" / "install.md").read_text()


def test_the_schema_lets_a_parent_chart_pass_its_globals() -> None:
    helm.render({"global": {"registry": "x"}})


def test_a_cluster_that_is_too_old_is_rejected() -> None:
    assert "kubeVersion: >=1.30.0-0" in helm.error_of(kubernetes="1.29.9")


@pytest.mark.parametrize("quantity", ["1", "0.5", "100m", "1Gi", "1e3", "128974848", 1, 0.25])
def test_a_quantity_may_have_any_form_that_kubernetes_knows(quantity: Any) -> None:
    resources = {"requests": {"cpu": quantity}, "limits": {"ephemeral-storage": quantity}}
    rendered = helm.render({"resources": resources, "auditor": {"resources": resources}})
    assert len(rendered.of_kind("Deployment")) == 2


def test_the_host_of_an_ingress_cannot_be_set_with_f5_s_controller() -> None:
    classes = {"nginx": "f5-nginx", "internal": "ingress-nginx"}
    ingress = {"classes": classes, "upstreamVhost": True}
    error = helm.error_of({"settings": {"ingress": ingress}})
    assert "settings.ingress.upstreamVhost: it has no effect for the class nginx" in error
    ingress["upstreamVhost"] = False
    helm.render({"settings": {"ingress": ingress}})
