"""Every known bypass of Istio is denied, with pods that the real istiod injects."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.cluster.api import Api, Json, StatusError, core, wait_for
from tests.cluster.istio import (
    CONFIG,
    INJECT,
    REVISION,
    STATUS,
    IstioCluster,
    is_meshed,
    sidecar_of,
)
from tests.cluster.istiod import Istiod
from tests.cluster.workloads import (
    annotations_of,
    copy_of,
    pod,
    template_of,
    workload,
)
from tests.fixtures.changes import RECORD
from tests.wire.seen import DENIED_BY, rows, submitted

APP: Json = {
    "name": "app",
    "image": "registry.example.com/shop:1",
    "ports": [{"containerPort": 8080}],
}
TRAFFIC = "traffic.sidecar.istio.io/"
DENIED = 'admission webhook "istio.enforce.mendix-mesh.io" denied the request: '


@pytest.fixture
def api(istio_cluster: IstioCluster) -> Api:
    return istio_cluster.api


@pytest.fixture(scope="module")
def enrolled(istio_cluster: IstioCluster) -> str:
    """A namespace for pods that are only tried."""
    return istio_cluster.enroll_for_trials()


@pytest.fixture(scope="module")
def account(istio_cluster: IstioCluster, enrolled: str) -> None:
    """The ServiceAccount of the fixtures' pods."""
    istio_cluster.api.create(core("ServiceAccount", "shop", enrolled))


@pytest.fixture(scope="module")
def cni(istio_cluster: IstioCluster) -> Iterator[Istiod]:
    """A revision of Istio besides the default one, whose CNI plugin redirects traffic."""
    values: Json = {"pilot": {"cni": {"enabled": True}}}
    with Istiod(istio_cluster.plane, revision="cni", values=values) as running:
        yield running


@pytest.mark.parametrize("name", rows())
def test_a_bypass_is_denied_also_if_a_plugin_redirects(
    api: Api, enrolled: str, account: None, cni: Istiod, name: str
) -> None:
    """tests/wire/ shows the same with istio-init, and what each pod would send."""
    made = submitted(rows()[name], enrolled)
    made["metadata"].setdefault("labels", {})[REVISION] = "cni"
    assert DENIED_BY.get(name, rows()[name].check) in denied_for(api, made)


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


def await_denial(api: Api, namespace: str) -> str:
    """Wait until the API server knows that a namespace disables Istio. Return a pod's denial."""
    return wait_for(lambda: api.denial(pod(namespace)), why="pods not to be injected")


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
        assert await_denial(api, where) == DENIED + (
            "pod shop would run outside the istio mesh:\n"
            "  proxy-missing  spec.initContainers  has no istio-proxy container; admin: check that "
            "the namespace has no label istio-injection=disabled, and no label istio.io/rev with a "
            "revision that is not installed; if no revision is the default, name yours in "
            "settings.istio.revision"
        )


def test_a_revision_that_a_pod_names_is_named_in_the_denial(api: Api, enrolled: str) -> None:
    with pytest.raises(
        StatusError, match=r"check that Istio's revision or tag nowhere is installed"
    ):
        api.create(pod(enrolled, labels={REVISION: "nowhere"}))


def test_a_template_that_is_certain_to_fail_is_denied_at_once(api: Api, enrolled: str) -> None:
    annotations = {INJECT: "false", f"{TRAFFIC}excludeInboundPorts": "8080"}
    made = workload("Deployment", enrolled, annotations=annotations, hostNetwork=True)
    message = api.denial(made)
    assert f"{DENIED}deployment shop would run outside the istio mesh:" in message
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
    new = pod(where, labels=labels)
    wait_for(
        lambda: DENIED in (said := api.denial(new)) and "  proxy-missing  " in said,
        why="the API server to forget Istio's webhook",
    )
    # Without mendix-mesh, the pod would start without any message.
    assert not sidecar_of(api.create(pod(plane.new_namespace(), labels=labels)))


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
    await_denial(api, where)
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
    await_denial(api, where)
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
