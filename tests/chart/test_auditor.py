"""The auditor's Deployment, its rights, and its clients."""

import itertools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from tests.chart import helm
from webhook.cli import main

DOCS = Path(__file__).parents[2] / "docs"
#: A right: API group, resource, the name of the one object or all, verb.
Right = tuple[str, str, str, str]
#: The rights of the auditor in addition to those of its commands in docs/rbac.yaml.
WATCHES = {("", "namespaces", "", "watch"), ("", "pods", "", "watch")}
#: What those commands read and the auditor does not: it gets its settings from a file, and finds
#: Mendix's namespaces only for the dashboard and to enroll them.
COMMANDS = {
    ("", "configmaps", "mendix-mesh-settings", "get"),
    ("privatecloud.mendix.com", "storageplans", "", "list"),
}
EVENTS = {
    ("", "events", "", "create"),
    ("", "events", "", "patch"),
    ("", "pods", "", "get"),
    ("apps", "deployments", "", "get"),
    ("apps", "statefulsets", "", "get"),
    ("apps", "daemonsets", "", "get"),
    ("batch", "cronjobs", "", "get"),
}
#: The doctor's rights that the chart grants only on request.
FULL = {
    ("", "pods", "", "create"),
    ("apps", "daemonsets", "linkerd-cni", "list"),
    ("", "secrets", "mendix-mesh-tls", "get"),
    ("", "secrets", "linkerd-proxy-injector-k8s-tls", "get"),
}


NO_DASHBOARD = {"enabled": False}
#: Neither Events nor dashboard.
ALONE: dict[str, Any] = {"events": False, "dashboard": NO_DASHBOARD}


def rights(rules: Iterable[dict[str, Any]]) -> set[Right]:
    """Return every right of some rules. A right for all objects includes those for some."""
    found = {
        right
        for rule in rules
        for right in itertools.product(
            rule["apiGroups"], rule["resources"], rule.get("resourceNames", [""]), rule["verbs"]
        )
    }
    return {
        (group, resource, name, verb)
        for group, resource, name, verb in found
        if not name or (group, resource, "", verb) not in found
    }


def documented() -> dict[str, list[dict[str, Any]]]:
    """The rules of each ClusterRole that docs/rbac.yaml and docs/day-2.md list."""
    blocks = re.findall(r"^```yaml\n(.*?)^```", (DOCS / "day-2.md").read_text(), re.M | re.S)
    texts = [(DOCS / "rbac.yaml").read_text(), *blocks]
    objects = [one for text in texts for one in yaml.safe_load_all(text)]
    return {
        one["metadata"]["name"]: one["rules"] for one in objects if one.get("kind") == "ClusterRole"
    }


def role(name: str = "mendix-mesh-watcher", **auditor: Any) -> set[Right]:
    found = helm.render({"auditor": auditor}).of_kind("ClusterRole")
    (rules,) = (one["rules"] for one in found if one["metadata"]["name"] == name)
    return rights(rules)


def pod(auditor: dict[str, Any] | None = None, **values: Any) -> dict[str, Any]:
    rendered = helm.render({"auditor": auditor or {}, **values})
    found: dict[str, Any] = rendered.one("Deployment", auditor=True)["spec"]["template"]
    return found


def container(auditor: dict[str, Any] | None = None, **values: Any) -> dict[str, Any]:
    (found,) = pod(auditor, **values)["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def test_it_may_do_what_the_docs_list_for_audit_and_doctor_and_watch() -> None:
    listed = documented()
    both = rights([*listed["mendix-mesh-auditor"], *listed["mendix-mesh-doctor"]])
    own = (both | WATCHES) - COMMANDS
    assert role(**ALONE) == own - FULL
    assert role(**ALONE, fullDoctor=True) == own


@pytest.mark.parametrize(
    ("revision", "more"),
    [
        (None, set()),
        ("default", set()),
        ("1-31", {"istio-sidecar-injector-1-31", "istio-1-31"}),
    ],
)
def test_it_may_read_the_configuration_of_the_revision_that_settings_name(
    revision: str | None, more: set[str]
) -> None:
    found = helm.render({"settings": {"istio": {"revision": revision}}}).of_kind("ClusterRole")
    (rules,) = (one["rules"] for one in found if one["metadata"]["name"] == "mendix-mesh-watcher")
    added = rights(rules) - role()
    assert added == {("", "configmaps", name, "get") for name in more}


def test_events_and_reports_are_rights_of_their_own() -> None:
    assert role(dashboard=NO_DASHBOARD) - role(**ALONE) == {
        right for right in EVENTS if right not in role(**ALONE)
    }
    reports = role("mendix-mesh-watcher-reports", reports=True)
    assert reports == rights(documented()["mendix-mesh-reporter"])
    names = {one["metadata"]["name"] for one in helm.render().of_kind("ClusterRole")}
    assert names == {"mendix-mesh-watcher"}


def test_the_dashboard_takes_the_rights_that_the_docs_list_for_it() -> None:
    listed = rights(documented()["mendix-mesh-dashboard"])
    shown = role(events=False)
    assert shown - role(**ALONE) <= listed | COMMANDS
    assert listed <= shown


def test_the_dashboard_is_for_port_forwards_alone_unless_it_is_exposed() -> None:
    rendered = helm.render()
    assert "--dashboard=127.0.0.1:8081" in container()["args"]
    assert "dashboard" not in {port["name"] for port in container()["ports"]}
    services = rendered.one("Service", auditor=True)["spec"]["ports"]
    assert "dashboard" not in {port["name"] for port in services}
    assert "auth-delegator" not in rendered.text
    off = helm.render({"auditor": {"dashboard": NO_DASHBOARD}})
    assert "dashboard" not in str(off.one("Deployment", auditor=True))


def test_an_exposed_dashboard_knows_its_names_and_asks_who_reads() -> None:
    values = {"auditor": {"dashboard": {"expose": True, "allowedHosts": ["mesh.example.com"]}},
              "networkPolicy": {"enabled": True, "apiServerCIDRs": ["10.0.0.0/8"],
                                "from": [{"podSelector": {}}]}}  # fmt: skip
    rendered = helm.render(values, namespace="platform")
    spec = rendered.one("Deployment", auditor=True)["spec"]["template"]["spec"]
    (own,) = spec["containers"]
    named = [arg.partition("=")[2] for arg in own["args"] if arg.startswith("--allowed-host")]
    assert named == [
        "mendix-mesh-auditor", "mendix-mesh-auditor.platform", "mendix-mesh-auditor.platform.svc",
        "mesh.example.com",
    ]  # fmt: skip
    assert {"--dashboard=:8081", "--authenticate"} <= set(own["args"])
    port = {one["name"]: one for one in rendered.one("Service", auditor=True)["spec"]["ports"]}
    assert (port["dashboard"]["port"], port["dashboard"]["targetPort"]) == (80, "dashboard")
    policy = rendered.one("NetworkPolicy", auditor=True)["spec"]["ingress"]
    assert {"protocol": "TCP", "port": 8081} in policy[0]["ports"]
    roles = {one["metadata"]["name"]: one["roleRef"]["name"]
             for one in rendered.of_kind("ClusterRoleBinding")}  # fmt: skip
    assert roles["mendix-mesh-token-reviewer"] == "system:auth-delegator"
    (viewer,) = (one for one in rendered.of_kind("ClusterRole")
                 if one["metadata"]["name"] == "mendix-mesh-viewer")  # fmt: skip
    assert viewer["rules"] == documented()["mendix-mesh-viewer"]


def test_without_authentication_the_api_server_is_not_called_for_it() -> None:
    rendered = helm.render({"auditor": {"dashboard": {"expose": True, "authenticate": False}}})
    assert "--authenticate" not in str(rendered.one("Deployment", auditor=True))
    assert "auth-delegator" not in rendered.text


@pytest.mark.parametrize("name", ["", "*", "a b", "http://x", "a,b", "-x", "x:80"])
def test_a_host_that_is_no_name_is_rejected(name: str) -> None:
    assert "allowedHosts" in helm.error_of({"auditor": {"dashboard": {"allowedHosts": [name]}}})


def test_by_default_it_reads_and_makes_events_and_no_more() -> None:
    writes = {right for right in role() if right[3] not in ("get", "list", "watch")}
    assert writes == {("", "events", "", "create"), ("", "events", "", "patch")}
    assert not [right for right in role() if right[1] == "secrets"]


def test_every_rule_says_what_it_is_for() -> None:
    for name in ("clusterrole", "clusterrole-reports"):
        lines = (helm.CHART / "templates" / "auditor" / f"{name}.yaml").read_text().splitlines()
        groups = [number for number, line in enumerate(lines) if "- apiGroups:" in line]
        explained = [number for number in groups if lines[number - 1].lstrip().startswith("#")]
        assert explained == groups


@pytest.mark.parametrize("only", ["", "autoEnroll", "dashboard", "events", "fullDoctor", "reports"])
def test_the_docs_list_each_right_and_what_it_is_for(only: str) -> None:
    text = (DOCS / "day-2.md").read_text().partition("### What the auditor may do")[2]
    listed = set()
    for line in re.findall(r"^\| `(?!resource)(.*) \|$", text.partition("\n## ")[0], re.M):
        where, verbs, value, why = [cell.strip(" `") for cell in line.split("|")]
        assert why
        if value == (f"auditor.{only}" if only else ""):
            listed |= {(where, verb) for verb in verbs.split(", ")}
    off = dict.fromkeys(("autoEnroll", "dashboard", "events", "fullDoctor", "reports"), False)

    def given(values: dict[str, bool]) -> set[tuple[str, str]]:
        auditor: dict[str, Any] = {**values, "dashboard": {"enabled": values["dashboard"]}}
        auditor["autoEnroll"] = "warn" if values["autoEnroll"] else "off"
        roles = helm.render({"auditor": auditor}).of_kind("ClusterRole")
        return {
            (f"{resource}/{name}" if name else resource, verb)
            for role in roles
            for _, resource, name, verb in rights(role["rules"])
        }

    assert listed == (given({**off, only: True}) - given(off) if only else given(off))


#: The rights to enroll namespaces, and to restart a new operator.
ENROLLS = {
    ("", "namespaces", "", "patch"),
    ("privatecloud.mendix.com", "operatorconfigurations", "", "watch"),
    ("privatecloud.mendix.com", "storageplans", "", "watch"),
    ("privatecloud.mendix.com", "mendixapps", "", "watch"),
    ("apps", "deployments", "mendix-operator", "patch"),
    ("apps", "deployments", "mendix-agent", "patch"),
}


@pytest.mark.parametrize("mode", ["warn", "enforce"])
def test_it_may_enroll_namespaces_only_if_that_is_switched_on(mode: str) -> None:
    assert role(autoEnroll=mode) - role() == ENROLLS
    assert f"--auto-enroll={mode}" in container({"autoEnroll": mode})["args"]


@pytest.mark.parametrize("value", ["off", False])
def test_enrolling_is_off_also_if_yaml_reads_off_as_false(value: object) -> None:
    assert role(autoEnroll=value) == role()
    assert not [arg for arg in container({"autoEnroll": value})["args"] if "enroll" in arg]


@pytest.mark.parametrize(
    ("auditor", "text"),
    [
        ({"autoEnroll": "audit"}, "autoEnroll"),
        ({"autoEnroll": True}, "autoEnroll"),
        ({"autoEnroll": "warn", "enabled": False}, "but it does not run; set auditor.enabled"),
    ],
)
def test_a_value_with_which_nothing_is_enrolled_is_rejected(
    auditor: dict[str, Any], text: str
) -> None:
    assert text in helm.error_of({"auditor": auditor})


def test_the_secret_that_the_full_doctor_reads_is_the_servers() -> None:
    rendered = helm.render({"auditor": {"fullDoctor": True}, "tls": {"secretName": "ours"}})
    (found,) = rendered.of_kind("ClusterRole")
    assert ("", "secrets", "ours", "get") in rights(found["rules"])


def test_the_account_is_its_own_and_the_roles_are_bound_to_it() -> None:
    rendered = helm.render({"auditor": {"reports": True}}, namespace="platform")
    account = rendered.one("ServiceAccount", auditor=True)
    assert account["automountServiceAccountToken"] is False
    spec = rendered.one("Deployment", auditor=True)["spec"]["template"]["spec"]
    assert spec["serviceAccountName"] == account["metadata"]["name"]
    assert spec["automountServiceAccountToken"] is True
    bindings = rendered.of_kind("ClusterRoleBinding")
    subject = {"kind": "ServiceAccount", "name": account["metadata"]["name"],
               "namespace": "platform"}  # fmt: skip
    assert [one["subjects"] for one in bindings] == [[subject]] * 2
    roles = {one["metadata"]["name"] for one in rendered.of_kind("ClusterRole")}
    assert {one["roleRef"]["name"] for one in bindings} == roles


def test_its_names_do_not_occur_in_the_docs() -> None:
    """A user who has applied docs/rbac.yaml can still install the chart."""
    objects = yaml.safe_load_all((DOCS / "rbac.yaml").read_text())
    theirs = {(one["kind"], one["metadata"]["name"]) for one in objects}
    rendered = helm.render({"auditor": {"reports": True}})
    assert not theirs & {(one["kind"], one["metadata"]["name"]) for one in rendered.objects}


def test_the_command_knows_its_arguments() -> None:
    values = {"events": True, "reports": True, "interval": 60}
    arguments = container(values, logLevel="debug")["args"]
    assert arguments == [
        "audit",
        "--watch",
        "--interval=60",
        "--listen=:8080",
        "--settings=/etc/mendix-mesh/settings.yaml",
        "--tls-listen=:10250",
        "--tls-cert-file=/etc/mendix-mesh/tls/tls.crt",
        "--tls-private-key-file=/etc/mendix-mesh/tls/tls.key",
        "--tls-server-name=mendix-mesh-auditor.mendix-mesh.svc",
        "--events",
        "--write-reports",
        "--dashboard=127.0.0.1:8081",
        "--log-level=debug",
    ]
    # It takes them, and then misses the files.
    outcome = CliRunner().invoke(main, [*arguments, "--kubeconfig=/nonexistent"])
    assert "there is no kubeconfig /nonexistent" in outcome.output


def test_its_pod_stays_outside_every_mesh() -> None:
    labels = {"sidecar.istio.io/inject": "true", "app.kubernetes.io/name": "x", "c": "d"}
    given = {"podAnnotations": {"linkerd.io/inject": "enabled"}, "podLabels": labels}
    metadata = pod(given)["metadata"]
    assert metadata["annotations"]["linkerd.io/inject"] == "disabled"
    assert metadata["labels"] == {
        "app.kubernetes.io/name": "mendix-mesh-auditor",
        "app.kubernetes.io/instance": "mendix-mesh",
        "sidecar.istio.io/inject": "false",
        "istio.io/dataplane-mode": "none",
        "c": "d",
    }


def test_it_asks_a_prometheus_that_is_named_with_its_token_and_ca() -> None:
    assert not [arg for arg in container()["args"] if "prometheus" in arg]
    where = {"url": "https://prometheus:9091", "window": "30m"}
    arguments = [arg for arg in container({"prometheus": where})["args"] if "prometheus" in arg]
    assert arguments == ["--prometheus=https://prometheus:9091", "--prometheus-window=30m"]
    whole = {"prometheus": {**where, "sendToken": True, "caConfigMapName": "ca"}}
    assert {
        "--prometheus-token-file=/var/run/secrets/kubernetes.io/serviceaccount/token",
        "--prometheus-ca-file=/etc/mendix-mesh/prometheus/ca.crt",
    } <= set(container(whole)["args"])
    volumes = {one["name"]: one for one in pod(whole)["spec"]["volumes"]}
    assert volumes["prometheus"]["configMap"] == {"name": "ca"}
    mounts = {one["name"]: one["mountPath"] for one in container(whole)["volumeMounts"]}
    assert mounts["prometheus"] == "/etc/mendix-mesh/prometheus"


@pytest.mark.parametrize("url", ["prometheus:9090", "https://a:b@prometheus", "http://a/?b"])
def test_an_address_of_prometheus_that_cannot_be_used_is_rejected(url: str) -> None:
    assert "auditor" in helm.error_of({"auditor": {"prometheus": {"url": url}}})


# Its certificate.


def serves_https(values: dict[str, Any]) -> str:
    """The Secret from which the auditor serves HTTPS; empty if it does not."""
    rendered = helm.render(values)
    spec = rendered.one("Deployment", auditor=True)["spec"]["template"]["spec"]
    names = [one["secret"]["secretName"] for one in spec["volumes"] if one["name"] == "tls"]
    ports = {port["name"] for port in rendered.one("Service", auditor=True)["spec"]["ports"]}
    args = " ".join(spec["containers"][0]["args"])
    assert ("https" in ports) == bool(names) == ("--tls-listen" in args)
    return str(names[0]) if names else ""


@pytest.mark.parametrize(
    ("values", "secret"),
    [
        ({}, "mendix-mesh-auditor-tls"),
        ({"tls": {"source": "helm"}}, "mendix-mesh-auditor-tls"),
        ({"auditor": {"tlsSecretName": "ours"}}, "ours"),
        # An existing Secret may not have its name. Then it does without.
        (helm.OWN, ""),
        ({**helm.OWN, "auditor": {"tlsSecretName": "ours"}}, "ours"),
        # API servers that can't reach pods can't call it.
        ({"hostNetwork": True, "port": 10260}, ""),
    ],
)
def test_it_serves_https_if_it_has_a_certificate(values: dict[str, Any], secret: str) -> None:
    assert serves_https(values) == secret


def test_its_certificate_is_not_the_servers() -> None:
    names = {one["spec"]["secretName"] for one in helm.render().of_kind("Certificate")}
    assert {"mendix-mesh-tls", "mendix-mesh-auditor-tls"} <= names
    made = helm.render({"tls": {"source": "helm"}})
    ours, servers = made.one("Secret", auditor=True), made.one("Secret")
    assert ours["metadata"]["name"] == "mendix-mesh-auditor-tls"
    assert ours["data"]["tls.key"] != servers["data"]["tls.key"]


# The clients that can reach it.


def test_without_it_nothing_of_it_is_there() -> None:
    values = {"auditor": {"enabled": False, "reports": True}, "serviceMonitor": {"enabled": True},
              "networkPolicy": {"enabled": True, "apiServerCIDRs": ["10.0.0.0/8"]}}  # fmt: skip
    assert "auditor" not in helm.render(values).text


def test_metrics_can_be_limited_to_scrapers_with_a_token() -> None:
    rendered = helm.render(
        {"auditor": {"metrics": {"authenticate": True}}, "serviceMonitor": {"enabled": True}}
    )
    assert "--authenticate-metrics" in arguments(rendered)
    (endpoint,) = rendered.one("ServiceMonitor", auditor=True)["spec"]["endpoints"]
    assert (endpoint["port"], endpoint["scheme"], endpoint["path"]) == (
        "https",
        "https",
        "/metrics",
    )
    assert endpoint["bearerTokenFile"].endswith("/serviceaccount/token")
    assert endpoint["tlsConfig"] == {
        "serverName": "mendix-mesh-auditor.mendix-mesh.svc",
        "ca": {"secret": {"name": "mendix-mesh-tls", "key": "ca.crt"}},
    }
    assert endpoint["honorLabels"] is True
    roles = {one["metadata"]["name"]: one for one in rendered.of_kind("ClusterRole")}
    assert roles["mendix-mesh-metrics-reader"]["rules"] == [
        {"nonResourceURLs": ["/metrics"], "verbs": ["get"]}
    ]
    bound = {one["roleRef"]["name"] for one in rendered.of_kind("ClusterRoleBinding")}
    assert "system:auth-delegator" in bound
    assert "mendix-mesh-metrics-reader" not in bound


def test_with_helm_s_certificate_prometheus_verifies_the_auditor_by_its_own_ca() -> None:
    rendered = helm.render(
        {
            "tls": {"source": "helm"},
            "auditor": {"metrics": {"authenticate": True}},
            "serviceMonitor": {"enabled": True},
        }
    )
    (endpoint,) = rendered.one("ServiceMonitor", auditor=True)["spec"]["endpoints"]
    assert endpoint["tlsConfig"]["ca"]["secret"]["name"] == "mendix-mesh-auditor-tls"


@pytest.mark.parametrize(
    "values",
    [
        {"hostNetwork": True, "port": 10260},
        {"tls": {"source": "secret", "caBundle": helm.CA}},
    ],
)
def test_metrics_by_https_without_a_certificate_are_rejected(values: dict[str, Any]) -> None:
    refused = helm.error_of({**values, "auditor": {"metrics": {"authenticate": True}}})
    assert "auditor.metrics.authenticate: the auditor serves no HTTPS" in refused


def test_warnings_name_pods_only_to_known_callers() -> None:
    assert not {"--callers-limited", "--client-ca-file"} & set(arguments(helm.render()))
    limited = helm.render({"networkPolicy": {"enabled": True, "apiServerCIDRs": ["10.0.0.0/8"]}})
    assert "--callers-limited" in arguments(limited)
    known = helm.render({"clientCertificates": {"caSecretName": "apis", "names": ["api"]}})
    assert "--client-ca-file=/etc/mendix-mesh/client-ca/ca.crt" in arguments(known)
    assert "--client-name=api" in arguments(known)
    spec = known.one("Deployment", auditor=True)["spec"]["template"]["spec"]
    (volume,) = [one for one in spec["volumes"] if one["name"] == "client-ca"]
    assert volume["secret"]["secretName"] == "apis"
    assert "client-ca" in [one["name"] for one in spec["containers"][0]["volumeMounts"]]


def arguments(rendered: helm.Rendered) -> list[str]:
    """The arguments of the auditor's container."""
    spec = rendered.one("Deployment", auditor=True)["spec"]["template"]["spec"]
    found: list[str] = spec["containers"][0]["args"]
    return found
