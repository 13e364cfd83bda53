"""Every known bypass of Istio is denied, and the most similar legitimate pod is admitted.

Each row runs on the real istiod, once with istio-init and once with its CNI plugin.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from tests.cluster.api import Api, Json, StatusError, wait_for
from tests.cluster.istio import (
    CONFIG,
    INJECT,
    REVISION,
    STATUS,
    TLS_MODE,
    IstioCluster,
    is_meshed,
    sidecar_of,
)
from tests.cluster.istiod import Istiod
from tests.cluster.workloads import (
    annotations_of,
    copy_of,
    failed_create,
    pod,
    ready_pods,
    template_of,
    workload,
)
from tests.fixtures.changes import RECORD

APP: Json = {
    "name": "app",
    "image": "registry.example.com/shop:1",
    "ports": [{"containerPort": 8080}],
}
TRAFFIC = "traffic.sidecar.istio.io/"
DENIED = 'admission webhook "istio.enforce.mendix-mesh.io" denied the request: '
#: The arguments of istio-init without those of a row.
RULES = {"-p": "15001", "-z": "15006", "-u": "1337", "-m": "REDIRECT", "-i": "*", "-x": "",
         "-b": "*", "-d": "15090,15021,15020"}  # fmt: skip


class Row(NamedTuple):
    """The check that denies a bypass, the bypass, and the most similar pod that is admitted.

    By default the latter is a plain pod. Both are the pod's fields.
    """

    check: str
    bad: Json
    good: Mapping[str, Any] = MappingProxyType({})


def annotated(**annotations: str) -> Json:
    """Return fields of a pod with annotations; `traffic_` stands for Istio's long prefix."""
    named = {key.replace("traffic_", TRAFFIC): value for key, value in annotations.items()}
    return {"annotations": named}


def note(name: str, value: str) -> Json:
    return {"annotations": {name: value}}


def config(**fields: Any) -> Json:
    return note(CONFIG, json.dumps(fields))


def metadata(**variables: str) -> Json:
    return config(proxyMetadata=variables)


def proxy(**fields: Any) -> Json:
    """Return a pod whose author customizes the proxy. The injector merges the customization."""
    return {"containers": [APP, {"name": "istio-proxy", "image": "auto", **fields}]}


def init(image: str = "docker.io/istio/proxyv2:1.31.0", **changed: str | None) -> Json:
    """Return a pod with its own istio-init, with some of its arguments changed."""
    rules = {**RULES, **{f"-{flag}": value for flag, value in changed.items()}}
    args = [part for flag, value in rules.items() if value is not None for part in (flag, value)]
    container = {"name": "istio-init", "image": image, "args": ["istio-iptables", *args]}
    return {"initContainers": [container]}


def app(**context: Any) -> Json:
    return {"containers": [{**APP, "securityContext": context}]}


def mounted(volume: str, path: str) -> Json:
    """Return a pod that mounts its own volume at a path of the proxy."""
    made = proxy(volumeMounts=[{"name": volume, "mountPath": path}])
    return {**made, "volumes": [{"name": volume, "emptyDir": {}}]}


def exposed(volume: str) -> Json:
    """Return a pod whose app mounts one of the proxy's volumes, which it must also declare."""
    container = {**APP, "volumeMounts": [{"name": volume, "mountPath": "/proxy"}]}
    return {"containers": [container], "volumes": [{"name": volume, "emptyDir": {}}]}


IMAGE = "sidecar.istio.io/proxyImage"
OWN_VOLUME = {"containers": [APP], "volumes": [{"name": "data", "emptyDir": {}}]}
BOTH_META = {"ISTIO_META_DNS_CAPTURE": "true"}

ROWS: dict[str, Row] = {
    # Pods that the injector skips.
    "host network": Row("host-network", {"hostNetwork": True}, {"hostPID": False}),
    "opted out by label": Row("opted-out", {"labels": {INJECT: "false"}},
                              {"labels": {INJECT: "true"}}),
    "opted out by annotation": Row("opted-out", note(INJECT, "false"), note(INJECT, "true")),
    "a revision that is not there": Row("proxy-missing", {"labels": {REVISION: "nowhere"}}),
    # Captured traffic.
    "no interception": Row("capture-bypassed", note("sidecar.istio.io/interceptionMode", "NONE"),
                           note("sidecar.istio.io/interceptionMode", "REDIRECT")),
    "no interception by configuration": Row("input-not-allowed", config(interceptionMode="NONE"),
                                            config(interceptionMode="REDIRECT")),
    "no interception in other letters": Row("input-not-allowed", config(interception_mode="NONE"),
                                            config(interception_mode="TPROXY")),
    "no interception by number": Row("input-not-allowed", config(interceptionMode=2),
                                     config(interceptionMode=0)),
    "no interception in YAML": Row("input-not-allowed", note(CONFIG, "interceptionMode: NONE\n"),
                                   note(CONFIG, "interceptionMode: REDIRECT\n")),
    "no inbound port": Row("capture-bypassed", annotated(traffic_includeInboundPorts=""),
                           annotated(traffic_includeInboundPorts="*")),
    "one inbound port": Row("capture-bypassed", annotated(traffic_includeInboundPorts="80"),
                            annotated(traffic_includeInboundPorts="*")),
    "no outbound address": Row("capture-bypassed", annotated(traffic_includeOutboundIPRanges=""),
                               annotated(traffic_includeOutboundIPRanges="*")),
    "some outbound addresses": Row("capture-bypassed",
                                   annotated(traffic_includeOutboundIPRanges="10.0.0.0/8"),
                                   annotated(traffic_includeOutboundIPRanges="*")),
    "an inbound port left out": Row("capture-bypassed",
                                    annotated(traffic_excludeInboundPorts=" 8080 ,15020"),
                                    annotated(traffic_excludeInboundPorts=" 15090 ,15020")),
    "the app's port for the agent's": Row("capture-bypassed",
                                          note("status.sidecar.istio.io/port", "8080"),
                                          note("status.sidecar.istio.io/port", "15020")),
    "an outbound port left out": Row("capture-bypassed",
                                     annotated(traffic_excludeOutboundPorts="5432"),
                                     annotated(traffic_includeOutboundPorts="5432")),
    "all addresses left out": Row("capture-bypassed",
                                  annotated(traffic_excludeOutboundIPRanges="0.0.0.0/0"),
                                  annotated(traffic_excludeOutboundIPRanges="")),
    "an interface left out": Row("capture-bypassed", annotated(traffic_excludeInterfaces="eth0")),
    "an interface as if it were the pod's": Row(
        "capture-bypassed", note("istio.io/reroute-virtual-interfaces", "eth0")),
    "the same by its old name": Row("capture-bypassed",
                                    annotated(traffic_kubevirtInterfaces="eth0")),
    "a gateway's template": Row("capture-bypassed", note("inject.istio.io/templates", "gateway"),
                                note("inject.istio.io/templates", "sidecar")),
    "a template without a proxy": Row("capture-bypassed",
                                      note("inject.istio.io/templates", "grpc-simple")),
    "a template without an Envoy": Row("capture-bypassed",
                                       note("inject.istio.io/templates", "grpc-agent")),
    # The settings of istio-init, by its environment and by a container of its name.
    **{
        f"{name} in the environment": Row("input-not-allowed", metadata(**{name: value}),
                                          config(proxyMetadata=BOTH_META))
        for name, value in {
            "SKIP_RULE_APPLY": "true", "DRY_RUN": "true", "CLEANUP_ONLY": "true",
            "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE": "1000", "ISTIO_EXCLUDE_INTERFACES": "eth0",
            "ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE": "5432", "KUBE_VIRT_INTERFACES": "eth0",
            "PROXY_GID": "1000", "DISABLE_ENVOY": "true", "OUTPUT_CERTS": "/data",
            "XTABLES_LIBDIR": "/data", "LD_PRELOAD": "/data/x.so", "CA_ADDR": "evil.example:1",
        }.items()
    },
    "variables in other letters": Row("input-not-allowed",
                                      config(proxy_metadata={"DISABLE_ENVOY": "true"}),
                                      config(proxy_metadata=BOTH_META)),
    "variables behind an alias": Row(
        "input-not-allowed",
        note(CONFIG, "proxyMetadata: {A: &on 'true', DISABLE_ENVOY: *on}"),
        note(CONFIG, "proxyMetadata: {TZ: 'UTC'}"),
    ),
    # A brought container is denied anyway, so the admitted pod has none.
    "an own istio-init that captures nothing": Row("proxy-brought", init(b=None, i=None)),
    "an own istio-init behind an annotation": Row(
        "proxy-brought", {**init(b=""), **annotated(traffic_includeInboundPorts="*")},
        annotated(traffic_includeInboundPorts="*")),
    "an own istio-init that leaves out": Row(
        "proxy-brought",
        {**init(x="0.0.0.0/0"), **annotated(traffic_excludeOutboundIPRanges="")},
        annotated(traffic_excludeOutboundIPRanges="")),
    "an own istio-init for two users": Row("proxy-brought", init(u="1337,1000")),
    "an own istio-init of another group": Row("proxy-brought", init(g="1000")),
    "an own istio-init of another source": Row("proxy-brought", init(image="evil/proxyv2:1")),
    "an own istio-init that may fail": Row("proxy-brought", {
        "initContainers": [{**init()["initContainers"][0], "command": ["true"]}]}),
    "an own istio-init that does all it should": Row("proxy-brought", init()),
    "a validation of nothing": Row("proxy-brought", {"initContainers": [{
        "name": "istio-validation", "image": "docker.io/istio/proxyv2:1.31.0",
        "args": ["istio-iptables", "-b", "*", "-i", "*", "--run-validation=false"]}]}),
    # The proxy's program.
    "an own proxy": Row("proxy-brought",
                        {"containers": [APP, {"name": "istio-proxy", "image": "sleep"}]}, proxy()),
    "an own proxy by Istio's note": Row("input-not-allowed", note(
        "proxy.istio.io/overrides",
        '{"initContainers": [{"name": "istio-proxy", "image": "evil.example/proxyv2"}]}')),
    "an own proxy behind a status": Row("input-not-allowed", {
        **proxy(command=["sleep"]), **note(STATUS, '{"containers": []}')}, proxy()),
    "a proxy's image of another source": Row("proxy-image-untrusted",
        note(IMAGE, "evil.io/proxyv2:1")),
    "an older version": Row("proxy-image-untrusted", note(IMAGE, "docker.io/istio/proxyv2:1.20.0"),
                            note("sidecar.istio.io/proxyImageType", "distroless")),
    "a look-alike in the path": Row("proxy-image-untrusted",
                                    note(IMAGE, "evil.io/docker.io/istio/proxyv2:1")),
    "a look-alike at the end": Row("proxy-image-untrusted",
                                   note(IMAGE, "docker.io/istio/proxyv2x:1")),
    "a look-alike with a port": Row("proxy-image-untrusted",
                                    note(IMAGE, "docker.io:5000/istio/proxyv2:1")),
    "an own command": Row("input-not-allowed", proxy(command=["sleep"]), proxy(resources={})),
    "an own bootstrap by argument": Row("input-not-allowed", proxy(
        args=["proxy", "sidecar", "--templateFile=/data/bootstrap.json"])),
    "an own mesh by argument": Row("input-not-allowed", proxy(
        args=["proxy", "sidecar", "--meshConfig", "/data/mesh"])),
    "not a sidecar": Row("input-not-allowed", proxy(args=["proxy", "router"])),
    "an own hook": Row("input-not-allowed", proxy(
        lifecycle={"postStart": {"exec": {"command": ["curl", "http://shop"]}}})),
    "a hook that undoes the rules": Row("input-not-allowed", proxy(livenessProbe={
        "exec": {"command": ["pilot-agent", "istio-iptables", "--cleanup-only"]}}), proxy(
        readinessProbe={"initialDelaySeconds": 5})),
    "another working directory": Row("input-not-allowed", proxy(workingDir="/data")),
    "a volume over the bootstrap": Row("input-not-allowed", mounted("data", "/etc/istio/proxy")),
    "a volume for a mesh of its own": Row("input-not-allowed",
        mounted("data", "/etc/istio/config")),
    "a volume over the program": Row("input-not-allowed", mounted("data", "/usr/local/bin")),
    "variables of another source": Row("input-not-allowed", proxy(
        envFrom=[{"configMapRef": {"name": "shop"}}]), proxy(env=[{"name": "TZ", "value": "UTC"}])),
    "an own bootstrap": Row("input-not-allowed",
                            note("sidecar.istio.io/bootstrapOverride", "mine")),
    "a later Istio's annotation": Row("input-not-allowed", note("sidecar.istio.io/next", "x")),
    "metrics of another source": Row("input-not-allowed",
                                     note("prometheus.io/path", "@10.9.9.9:1/x"),
                                     note("prometheus.io/path", "/metrics?full=1")),
    "a variable that is filled in later": Row("input-not-allowed", proxy(env=[
        {"name": "APP", "value": "x"},
        {"name": "PROXY_CONFIG", "value": '{"serviceCluster":"$(APP)"}'}])),
    "an own bootstrap by variable": Row("input-not-allowed", proxy(
        env=[{"name": "ISTIO_BOOTSTRAP_OVERRIDE", "value": "/data/x"}])),
    "an own program": Row("input-not-allowed", config(binaryPath="/bin/sleep"),
                          config(concurrency=1)),
    "an own configuration": Row("input-not-allowed", config(customConfigFile="/data/x")),
    "an own template": Row("input-not-allowed", config(proxyBootstrapTemplatePath="/data/x")),
    "an own folder": Row("input-not-allowed", config(configPath="/data")),
    # The proxy's control plane and identity.
    "another istiod": Row("input-not-allowed", config(discoveryAddress="evil.example:15012"),
                          config(discoveryAddress="istiod.istio-system.svc:15012")),
    "another istiod in other letters": Row("input-not-allowed",
                                           config(discovery_address="evil.example:15012")),
    "another istiod that looks like it": Row(
        "input-not-allowed",
        config(discoveryAddress="istiod.istio-system.svc.evil.example:15012"),
        config(discoveryAddress="istiod.istio-system.svc.cluster.local:15012")),
    "another istiod by the old annotation": Row(
        "control-plane-elsewhere", note("sidecar.istio.io/discoveryAddress", "evil.example:15012"),
        note("sidecar.istio.io/discoveryAddress", "istiod.istio-system.svc:15012")),
    "another istiod by variable": Row("input-not-allowed", proxy(
        env=[{"name": "PROXY_CONFIG", "value": '{"discovery_address": "evil.example:1"}'}])),
    "another authority": Row("input-not-allowed", proxy(
        env=[{"name": "CA_ADDR", "value": "evil.example:15012"}])),
    "plaintext to istiod": Row("input-not-allowed", config(controlPlaneAuthPolicy="NONE")),
    "the pod as the proxy's user": Row("proxy-uid", {"securityContext": {"runAsUser": 1337}},
                                       {"securityContext": {"runAsUser": 1338}}),
    "the app as the proxy's user": Row("proxy-uid", app(runAsUser=1337), app(runAsUser=1338)),
    "the app in the proxy's group": Row("proxy-uid", app(runAsGroup=1337), app(runAsGroup=1338)),
    "volumes of the proxy's group": Row("proxy-uid", {"securityContext": {"fsGroup": 1337}},
                                        {"securityContext": {"fsGroup": 1338}}),
    "a member of the proxy's group": Row(
        "proxy-uid", {"securityContext": {"supplementalGroups": [1000, 1337]}},
        {"securityContext": {"supplementalGroups": [1000, 1338]}}),
    "an init container as the proxy": Row("proxy-uid", {"initContainers": [
        {"name": "setup", "image": "setup", "securityContext": {"runAsUser": 1337}}]}),
    "the proxy as the app's user": Row("input-not-allowed",
        proxy(securityContext={"runAsUser": 1000})),
    "the proxy in the app's group": Row("input-not-allowed",
        proxy(securityContext={"runAsGroup": 1000})),
    "no mTLS": Row("mtls-disabled", {"labels": {TLS_MODE: "disabled"}},
                   {"labels": {TLS_MODE: "istio"}}),
    "the proxy's key": Row("identity-exposed", exposed("workload-certs"), OWN_VOLUME),
    "the proxy's bootstrap": Row("identity-exposed", exposed("istio-envoy"), OWN_VOLUME),
    "the right to undo capture": Row("capture-capability", app(capabilities={"add": ["NET_ADMIN"]}),
                                     app(capabilities={"drop": ["ALL"]})),
    "a privileged app": Row("capture-capability", app(privileged=True), app(privileged=False)),
    # Another mesh in the same pod.
    "Linkerd's proxy": Row("foreign-mesh", {"containers": [
        APP, {"name": "linkerd-proxy", "image": "cr.l5d.io/linkerd/proxy:1"}]}),
    "a name of istiod's": Row("control-plane-elsewhere", {"hostAliases": [
        {"ip": "10.9.9.9", "hostnames": ["istiod.istio-system.svc"]}]}, {"hostAliases": [
        {"ip": "10.9.9.9", "hostnames": ["erp.example.com"]}]}),
    "own roots": Row("proxy-brought", {"volumes": [{"name": "istiod-ca-cert", "configMap": {
        "name": "istio-ca-root-cert",
        "items": [{"key": "mine.pem", "path": "root-cert.pem"}]}}]}, OWN_VOLUME),
    "ambient": Row("foreign-mesh", {"labels": {"istio.io/dataplane-mode": "ambient"}},
                   {"labels": {"istio.io/dataplane-mode": "none"}}),
}  # fmt: skip


@pytest.fixture
def api(istio_cluster: IstioCluster) -> Api:
    return istio_cluster.api


@pytest.fixture(scope="module")
def enrolled(istio_cluster: IstioCluster) -> str:
    """A namespace for pods that are only tried."""
    return istio_cluster.enroll_for_trials()


@pytest.fixture(scope="module")
def cni(istio_cluster: IstioCluster) -> Iterator[Istiod]:
    """A revision of Istio besides the default one, whose CNI plugin redirects traffic."""
    values: Json = {"pilot": {"cni": {"enabled": True}}}
    with Istiod(istio_cluster.plane, revision="cni", values=values) as running:
        yield running


def made(namespace: str, fields: Mapping[str, Any], revision: str) -> Json:
    spec = {"containers": [APP], **fields}
    labels = {REVISION: revision, **spec.pop("labels", {})}
    return pod(namespace, labels=labels, annotations=spec.pop("annotations", None), **spec)


@pytest.mark.parametrize("revision", ["default", "cni"])
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_bypass_is_denied_and_the_nearest_honest_pod_admitted(
    api: Api, enrolled: str, cni: Istiod, row: Row, revision: str
) -> None:
    with pytest.raises(StatusError) as denied:
        api.create(made(enrolled, row.bad, revision), dry_run=True)
    assert denied.value.code == 403
    assert denied.value.message.startswith(DENIED), denied.value.message
    found = {line.split()[0] for line in denied.value.message.splitlines()[1:]}
    assert row.check in found
    assert found.isdisjoint({"proxy-missing"} - {row.check}), "the reason explains it already"
    good = api.create(made(enrolled, row.good, revision), dry_run=True)
    assert is_meshed(good)


@pytest.mark.parametrize(
    "annotations",
    [
        {f"{TRAFFIC}excludeInboundPorts": "*"},
        {f"{TRAFFIC}excludeInboundPorts": "1-65535"},
        {f"{TRAFFIC}excludeOutboundIPRanges": "*"},
        {f"{TRAFFIC}includeOutboundIPRanges": "shop"},
        {"inject.istio.io/templates": "nonesuch"},
        {"sidecar.istio.io/interceptionMode": "OFF"},
        {CONFIG: "interceptionMode: OFF"},
        {CONFIG: "- a list"},
    ],
    ids=str,
)
def test_istio_itself_rejects_what_it_cannot_read(
    api: Api, enrolled: str, annotations: Json
) -> None:
    with pytest.raises(
        StatusError, match=r'"object\.sidecar-injector\.istio\.io" denied the request'
    ):
        api.create(pod(enrolled, annotations=annotations), dry_run=True)


def test_a_namespace_that_disables_istio_gets_the_fix_to_enable_it(
    istio_cluster: IstioCluster,
) -> None:
    api = istio_cluster.api
    for labels in (
        {"istio-injection": "disabled"},
        {"istio-injection": "off"},
        {REVISION: "nowhere"},
    ):
        where = istio_cluster.enroll()
        api.patch("Namespace", where, None, {"metadata": {"labels": labels}})
        istio_cluster.await_judge(where, "istio.enforce")
        with pytest.raises(StatusError) as denied:
            api.create(pod(where))
        assert denied.value.message == DENIED + (
            "pod shop would run outside the istio mesh:\n"
            "  proxy-missing  spec.initContainers  has no istio-proxy container; admin: check that "
            "the namespace has no label istio-injection=disabled, and no label istio.io/rev with a "
            "revision that is not installed; if no revision is the default, name yours in "
            "settings.istio.revision"
        )


def test_a_replica_set_says_why_it_has_no_pods_and_recovers_with_its_namespace(
    istio_cluster: IstioCluster,
) -> None:
    api, where = istio_cluster.api, istio_cluster.enroll()
    labels: Json = {"metadata": {"labels": {"istio-injection": "disabled"}}}
    api.patch("Namespace", where, None, labels)
    istio_cluster.await_judge(where, "istio.enforce")
    api.create(workload("Deployment", where))
    message = wait_for(lambda: failed_create(api, where, "shop-"), why="the ReplicaSet's event")
    assert "  proxy-missing  spec.initContainers  has no istio-proxy container; " in message
    assert "istio-injection=disabled" in message
    labels["metadata"]["labels"]["istio-injection"] = None
    api.patch("Namespace", where, None, labels)
    (found,) = ready_pods(api, where)
    assert is_meshed(found)


def test_a_revision_that_a_pod_names_is_named_in_the_denial(api: Api, enrolled: str) -> None:
    with pytest.raises(
        StatusError, match=r"check that Istio's revision or tag nowhere is installed"
    ):
        api.create(pod(enrolled, labels={REVISION: "nowhere"}))


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"])
def test_a_template_that_is_certain_to_fail_is_denied_at_once(
    api: Api, enrolled: str, kind: str
) -> None:
    annotations = {INJECT: "false", f"{TRAFFIC}excludeInboundPorts": "8080"}
    with pytest.raises(StatusError) as denied:
        api.create(workload(kind, enrolled, annotations=annotations, hostNetwork=True))
    message = denied.value.message
    assert f"{DENIED}{kind.lower()} shop would run outside the istio mesh:" in message
    found = {line.split()[0] for line in message.splitlines()[1:]}
    assert found == {"host-network", "opted-out", "capture-bypassed"}


def test_a_cluster_side_opt_out_does_not_reach_enrolled_pods(istio_cluster: IstioCluster) -> None:
    """`neverInjectSelector` and `autoInject` apply only to pods without their own label."""
    api, plane = istio_cluster.api, istio_cluster.plane
    values: Json = {
        "sidecarInjectorWebhook": {"neverInjectSelector": [{"matchLabels": {"app": "shop"}}]},
        "global": {"proxy": {"autoInject": "disabled"}},
    }
    with Istiod(plane, revision="never", values=values):
        labels = {"app": "shop", REVISION: "never"}
        assert not sidecar_of(api.create(pod(plane.new_namespace(), labels=labels)))
        assert is_meshed(api.create(pod(istio_cluster.enroll(), labels=labels)))


def test_while_istiod_is_down_istio_denies_and_without_its_webhook_we_do(
    istio_cluster: IstioCluster,
) -> None:
    """Istio's own webhook fails closed. Without that webhook, pods start outside the mesh."""
    api, plane, where = istio_cluster.api, istio_cluster.plane, istio_cluster.enroll()
    labels = {REVISION: "fading"}
    with Istiod(plane, revision="fading") as fading:
        assert is_meshed(api.create(pod(where, "first", labels=labels)))
        fading.stop()
        with pytest.raises(StatusError, match=r'failed calling webhook "rev\.object\.sidecar-inj'):
            api.create(pod(where, labels=labels))

    # The webhook's configuration is gone, as for a moment in an upgrade of Istio.
    def denied() -> str:
        try:
            api.create(pod(where, labels=labels), dry_run=True)
        except StatusError as error:
            return error.message if DENIED in error.message else ""
        return "admitted"

    message = wait_for(denied, why="the API server to forget Istio's webhook")
    assert "  proxy-missing  " in message
    # Without mendix-mesh, the pod would start without any message.
    assert not sidecar_of(api.create(pod(plane.new_namespace(), labels=labels)))


def test_while_we_are_down_nothing_starts(istio_cluster: IstioCluster, enrolled: str) -> None:
    istio_cluster.kubelet.pause()
    try:
        with pytest.raises(
            StatusError, match=r'failed calling webhook "istio\.mutate-pods\.enforce\.'
        ):
            istio_cluster.api.create(pod(enrolled))
    finally:
        istio_cluster.kubelet.resume()


def test_a_pod_that_was_injected_by_hand_without_a_status_is_denied_if_a_plugin_redirects(
    istio_cluster: IstioCluster, cni: Istiod
) -> None:
    """`istioctl kube-inject` creates such a CronJob. Istio's CNI plugin treats it like any pod.

    The injector would write a new status, so the namespace disables it here.
    """
    api, where = istio_cluster.api, istio_cluster.enroll()
    stored = api.create(pod(where, labels={REVISION: "cni"}), dry_run=True)
    keep_out = {"metadata": {"labels": {"istio-injection": "disabled"}}}
    api.patch("Namespace", where, None, keep_out)
    istio_cluster.await_judge(where, "istio.enforce")
    by_hand = copy_of(stored)
    assert denied_for(api, by_hand) == {"proxy-brought"}
    del by_hand["metadata"]["annotations"][STATUS]
    assert denied_for(api, by_hand) == {"proxy-brought"}


def denied_for(api: Api, obj: Json) -> set[str]:
    """Return the checks for which an object is denied."""
    with pytest.raises(StatusError, match=DENIED) as denied:
        api.create(obj, dry_run=True)
    return {line.split()[0] for line in denied.value.message.splitlines()[1:]}


def altered(stored: Json) -> Json:
    """Return a copy of an injected pod whose author changed a variable of the proxy."""
    made = copy_of(stored)
    proxy = next(c for c in made["spec"]["initContainers"] if c["name"] == "istio-proxy")
    proxy["env"] = [one for one in proxy["env"] if one["name"] != "TRUST_DOMAIN"]
    proxy["env"].append({"name": "TRUST_DOMAIN", "value": "evil.example"})
    return made


@pytest.mark.parametrize("revision", ["default", "cni"])
@pytest.mark.parametrize("make", [copy_of, altered])
def test_a_proxy_that_a_pod_brings_is_denied_even_if_it_looks_valid(
    api: Api, enrolled: str, cni: Istiod, revision: str, make: Callable[[Json], Json]
) -> None:
    stored = api.create(pod(enrolled, labels={REVISION: revision}), dry_run=True)
    assert RECORD not in annotations_of(stored)
    made = make(stored)
    assert denied_for(api, made) == {"proxy-brought"}
    del made["metadata"]["annotations"][STATUS]
    assert denied_for(api, made) == {"proxy-brought"}


def test_without_us_the_injector_keeps_what_the_author_wrote(
    istio_cluster: IstioCluster,
) -> None:
    """Istio's injector runs after us, and merges its proxy with the one that it finds."""
    api, where = istio_cluster.api, istio_cluster.plane.new_namespace()
    made = altered(api.create(pod(where, labels={INJECT: "true"}), dry_run=True))
    del made["metadata"]["annotations"][STATUS]
    again = api.create(made, dry_run=True)
    assert is_meshed(again)
    proxy = next(c for c in again["spec"]["initContainers"] if c["name"] == "istio-proxy")
    assert {"name": "TRUST_DOMAIN", "value": "evil.example"} in proxy["env"]


def test_a_template_that_brings_its_proxy_is_denied_at_once(api: Api, enrolled: str) -> None:
    """As `istioctl kube-inject` writes it."""
    stored = copy_of(api.create(pod(enrolled), dry_run=True))
    made = workload("Deployment", enrolled, **stored["spec"])
    template_of(made)["metadata"] |= {
        "labels": {**stored["metadata"]["labels"], "app": "shop"},
        "annotations": stored["metadata"]["annotations"],
    }
    assert denied_for(api, made) == {"proxy-brought"}


def test_a_status_alone_is_no_proof(istio_cluster: IstioCluster) -> None:
    api, where = istio_cluster.api, istio_cluster.enroll()
    keep_out = {"metadata": {"labels": {"istio-injection": "disabled"}}}
    api.patch("Namespace", where, None, keep_out)
    istio_cluster.await_judge(where, "istio.enforce")
    with pytest.raises(StatusError, match=rf"status-forged +metadata\.annotations\[{STATUS}\]"):
        api.create(pod(where, annotations={STATUS: '{"containers": ["istio-proxy"]}'}))


def test_a_gateway_with_anything_beside_its_proxy_is_judged_as_an_app(
    api: Api, enrolled: str
) -> None:
    labels, annotations = {INJECT: "true"}, {"inject.istio.io/templates": "gateway"}
    router = {"name": "istio-proxy", "image": "auto"}

    def gateway(**spec: Any) -> Json:
        return pod(enrolled, labels=labels, annotations=annotations, **spec)

    assert sidecar_of(api.create(gateway(containers=[router]), dry_run=True))
    hooked = {**router, "lifecycle": {"postStart": {"exec": {"command": ["curl", "shop"]}}}}
    for containers in (
        [router, APP],
        [{**router, "image": "evil.example/proxyv2"}],
        [{**router, "command": ["sleep"]}],
        [{**router, "args": ["proxy", "router", "--templateFile=/data/x"]}],
        [hooked],
    ):
        with pytest.raises(StatusError, match=DENIED):
            api.create(gateway(containers=containers), dry_run=True)
    with pytest.raises(StatusError, match="host-network"):
        api.create(gateway(containers=[router], hostNetwork=True), dry_run=True)
