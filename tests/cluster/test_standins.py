"""The stand-ins themselves, on the test cluster: they do what the real programs do."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.cluster.api import Api, Json, StatusError, wait_for
from tests.cluster.mesh import MeshCluster
from tests.cluster.plane import STAY_ANNOTATION, ControlPlane
from tests.standins import mendix_manifests as manifests
from tests.standins.defaults import defaulted
from tests.standins.linkerd import InjectorConfig
from tests.standins.linkerd_server import LinkerdInjector
from tests.standins.mendix import MendixOperator, install

Namespace = Callable[..., str]
ENABLED = {"linkerd.io/inject": "enabled"}


@pytest.fixture
def api(plane: ControlPlane) -> Api:
    return plane.api


@pytest.fixture
def injector(mesh_cluster: MeshCluster) -> Iterator[LinkerdInjector]:
    """The one that the cluster has: a second would take over its webhook configuration."""
    yield mesh_cluster.injector
    mesh_cluster.injector.config = InjectorConfig()
    mesh_cluster.injector.restart()


@pytest.fixture
def operator(plane: ControlPlane, namespace: Namespace) -> MendixOperator:
    where = namespace("mendix")
    install(plane.api, where)
    return MendixOperator(plane.user("operator", ["system:masters"]), where)


def pod(where: str, name: str = "task", **spec: Any) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": where, "annotations": dict(ENABLED)},
        "spec": {"containers": [{"name": "app", "image": "app"}], "restartPolicy": "Never", **spec},
    }


def configured(annotations: dict[str, str]) -> dict[str, str]:
    return {f"config.linkerd.io/{name}": value for name, value in annotations.items()}


def names(obj: Json, field: str) -> list[str]:
    return [entry["name"] for entry in obj["spec"].get(field, ())]


@pytest.mark.parametrize(
    ("config", "inits", "containers"),
    [
        (InjectorConfig(), ["linkerd-init", "linkerd-proxy"], ["app"]),
        (InjectorConfig(native=False), ["linkerd-init"], ["linkerd-proxy", "app"]),
        (InjectorConfig(cni=True), ["linkerd-network-validator", "linkerd-proxy"], ["app"]),
        (
            InjectorConfig(cni=True, native=False, debug=True),
            ["linkerd-network-validator"],
            ["linkerd-proxy", "app", "linkerd-debug"],
        ),
    ],
    ids=["native", "classic", "cni", "classic with cni"],
)
def test_the_api_server_stores_what_the_injector_makes(
    api: Api,
    namespace: Namespace,
    injector: LinkerdInjector,
    config: InjectorConfig,
    inits: list[str],
    containers: list[str],
) -> None:
    injector.config = config
    stored = api.create(pod(namespace()))
    assert not api.warnings
    assert names(stored, "initContainers") == inits
    assert names(stored, "containers") == containers
    assert injector.answered[-1].skipped == ()


def test_an_outage_lets_pods_through_without_a_proxy(
    api: Api, namespace: Namespace, injector: LinkerdInjector
) -> None:
    where = namespace()
    assert names(api.create(pod(where, "before")), "initContainers")
    injector.stop()
    for name in ("during", "still"):
        assert not names(api.create(pod(where, name)), "initContainers")
    injector.restart()
    assert names(api.create(pod(where, "after")), "initContainers")


def test_an_outage_under_high_availability_denies_pods(
    plane: ControlPlane, namespace: Namespace, injector: LinkerdInjector
) -> None:
    user = plane.user("injector", ["system:masters"])
    where = namespace()
    with LinkerdInjector(user, failure_policy="Fail") as strict:
        strict.stop()
        with pytest.raises(StatusError) as denied:
            plane.api.create(pod(where))
        strict.restart()
        assert denied.value.code == 500
        assert names(plane.api.create(pod(where)), "initContainers")
    injector.start()


def test_labels_keep_pods_from_the_injector(
    api: Api, namespace: Namespace, injector: LinkerdInjector
) -> None:
    where = namespace()
    before = len(injector.answered)
    hidden = pod(where)
    hidden["metadata"]["labels"] = {"linkerd.io/cni-resource": ""}
    api.create(hidden)
    api.create(pod(namespace(labels={"config.linkerd.io/admission-webhooks": "disabled"})))
    assert not [a for a in injector.answered[before:] if a.kind == "Pod"]


def test_the_injector_denies_what_it_cannot_make(
    api: Api, namespace: Namespace, injector: LinkerdInjector
) -> None:
    bad = pod(namespace())
    bad["metadata"]["annotations"]["config.linkerd.io/proxy-log-http-headers"] = "all"
    with pytest.raises(StatusError, match=r"linkerd-proxy-injector\.linkerd\.io"):
        api.create(bad)


ENV = 'env: [{"name": "LINKERD2_PROXY_LOG", "value": "evil"}]'


@pytest.mark.parametrize(
    ("own", "of_namespace"),
    [
        ({"proxy-version": 'edge"'}, {}),
        ({"proxy-version": "edge\n" + ENV}, {}),
        ({}, {"proxy-additional-env": '[{"name": "A", "value": "b"}]'}),
    ],
    ids=["quote", "line break", "variables of the namespace"],
)
def test_a_broken_patch_lets_the_pod_through_without_a_proxy(
    api: Api,
    namespace: Namespace,
    injector: LinkerdInjector,
    own: dict[str, str],
    of_namespace: dict[str, str],
) -> None:
    where = namespace(annotations=configured(of_namespace))
    submitted = pod(where)
    submitted["metadata"]["annotations"] |= configured(own)
    stored = api.create(submitted)
    assert injector.answered[-1].skipped == ()
    assert not names(stored, "initContainers")
    assert stored["metadata"]["annotations"] == submitted["metadata"]["annotations"]


@pytest.mark.parametrize(
    "config", [InjectorConfig(), InjectorConfig(cni=True)], ids=["init", "cni"]
)
def test_a_line_break_in_the_pull_policy_writes_the_proxys_env(
    api: Api, namespace: Namespace, injector: LinkerdInjector, config: InjectorConfig
) -> None:
    injector.config = config
    submitted = pod(namespace())
    submitted["metadata"]["annotations"] |= configured({"image-pull-policy": "Always\n" + ENV})
    for container in api.create(submitted)["spec"]["initContainers"]:
        assert container["env"] == [{"name": "LINKERD2_PROXY_LOG", "value": "evil"}]
        assert container["imagePullPolicy"] == "Always"


def test_an_owners_name_can_add_operations_to_the_patch(
    api: Api, namespace: Namespace, injector: LinkerdInjector
) -> None:
    submitted = pod(namespace())
    name = 'x"},{"op":"add","path":"/metadata/annotations/evil","value":"yes'
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": "u-1"}
    submitted["metadata"]["ownerReferences"] = [owner]
    stored = api.create(submitted)
    assert stored["metadata"]["annotations"]["evil"] == "yes"
    assert "linkerd-proxy" in names(stored, "initContainers")


@pytest.mark.parametrize("value", ["a: b", "Always\nnot a mapping"])
def test_the_api_server_denies_what_yaml_does_not_parse(
    api: Api, namespace: Namespace, injector: LinkerdInjector, value: str
) -> None:
    submitted = pod(namespace())
    submitted["metadata"]["annotations"] |= configured({"image-pull-policy": value})
    with pytest.raises(StatusError, match=r"initContainers\[0\]\.name: Required value"):
        api.create(submitted)


def test_owners_become_labels(api: Api, namespace: Namespace, injector: LinkerdInjector) -> None:
    where = namespace(annotations=ENABLED)
    template: Json = {
        "metadata": {"labels": {"app": "x"}},
        "spec": {"containers": [{"name": "app", "image": "app"}]},
    }
    api.create(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web", "namespace": where},
            "spec": {"selector": {"matchLabels": {"app": "x"}}, "template": template},
        }
    )
    task = {"spec": {**template["spec"], "restartPolicy": "Never"}}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "once", "namespace": where},
        "spec": {"template": task},
    }
    api.create(job)
    cron = api.create(
        {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": {"name": "often", "namespace": where},
            "spec": {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": task}}},
        }
    )
    reference: Json = {"apiVersion": "batch/v1", "kind": "CronJob", "name": "often"}
    reference |= {"uid": cron["metadata"]["uid"], "controller": True}
    metadata = {"name": "often-1", "namespace": where, "ownerReferences": [reference]}
    api.create({**job, "metadata": metadata})

    def by_label() -> set[str]:
        pods = api.list("Pod", where)
        return (
            {
                f"{key.removeprefix('linkerd.io/')}={value}"
                for p in pods
                for key, value in p["metadata"]["labels"].items()
                if key.startswith("linkerd.io/proxy-")
            }
            if len(pods) == 3
            else set()
        )

    found = wait_for(by_label, why="three pods")
    assert found == {"proxy-deployment=web", "proxy-job=once"}
    wait_for(
        lambda: api.get("Job", "once", where).get("status", {}).get("succeeded"),
        why="the Job with its native sidecar to complete",
    )
    assert {p["metadata"]["labels"]["linkerd.io/workload-ns"] for p in api.list("Pod", where)} == {
        where
    }


def test_a_service_gets_its_opaque_ports(
    api: Api, namespace: Namespace, injector: LinkerdInjector
) -> None:
    where = namespace()
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "db", "namespace": where},
        "spec": {"ports": [{"port": 5432}]},
    }
    stored = api.create(service)
    assert stored["metadata"]["annotations"] == {"config.linkerd.io/opaque-ports": "5432"}


def test_the_defaults_are_the_api_servers(api: Api, namespace: Namespace) -> None:
    where = namespace()
    for made in (
        manifests.app_deployment("shop", where, annotations={"a": "b"}),
        manifests.operator_deployment(where),
        manifests.agent_deployment(where),
    ):
        assert defaulted(made)["spec"] == api.create(made, dry_run=True)["spec"]


def test_the_operator_makes_all_of_an_app_and_then_rests(
    api: Api, operator: MendixOperator
) -> None:
    where = operator.namespace
    api.create(manifests.mendix_app("shop", where))
    assert operator.reconcile() == 11
    assert operator.denied == {}

    owners = {}
    for kind in ("Runtime", "Build", "StorageInstance", "Endpoint", "Deployment", "Service"):
        for obj in api.list(kind, where):
            if references := obj["metadata"].get("ownerReferences"):
                (owner,) = references
                owners[f"{kind}/{obj['metadata']['name']}"] = f"{owner['kind']}/{owner['name']}"
    for p in api.list("Pod", where):
        (owner,) = p["metadata"].get("ownerReferences") or [{"kind": "-", "name": "-"}]
        if owner["kind"] != "ReplicaSet":
            owners[f"Pod/{p['metadata']['name']}"] = f"{owner['kind']}/{owner['name']}"
    assert owners == {
        "Runtime/shop": "MendixApp/shop",
        "Build/shop-build": "MendixApp/shop",
        "StorageInstance/shop-database": "MendixApp/shop",
        "StorageInstance/shop-file": "MendixApp/shop",
        "Endpoint/shop": "MendixApp/shop",
        "Deployment/shop-master": "Runtime/shop",
        "Service/shop": "Endpoint/shop",
        "Pod/shop-build": "Build/shop-build",
        "Pod/shop-database": "StorageInstance/shop-database",
        "Pod/shop-file": "StorageInstance/shop-file",
    }

    def done() -> bool:
        operator.reconcile()
        return all(
            (obj.get("status") or {}).get("phase") == "Done"
            for kind in ("StorageInstance", "Build")
            for obj in api.list(kind, where)
        )

    wait_for(done, why="the tasks to be done")
    wait_for(
        lambda: api.get("Deployment", "shop-master", where).get("status", {}).get("readyReplicas"),
        why="the app",
    )
    before = operator.writes.copy()
    for _ in range(5):
        assert operator.reconcile() == 0
    assert operator.writes == before
    assert before["Deployment/shop-master"] == 1
    assert operator.reconciles >= 6
    # A task's pod is not recreated after its task has ended.
    api.delete("Pod", "shop-file", where, grace=0)
    assert operator.reconcile() == 0


def test_the_operator_rolls_back_deployments_and_keeps_ingress_annotations(
    api: Api, operator: MendixOperator
) -> None:
    where = operator.namespace
    api.create(manifests.mendix_app("shop", where, runtimeDeploymentPodAnnotations={"a": "b"}))
    with operator.run(every=0.05):
        wait_for(lambda: api.get("Ingress", "shop", where), why="the Ingress")
        first = wait_for(lambda: api.get("Deployment", "shop-master", where), why="the Deployment")
        annotations = {"metadata": {"annotations": {"mine": "x"}}}
        api.patch("Ingress", "shop", where, annotations)
        template = {"template": {"metadata": {"annotations": ENABLED}}}
        api.patch("Deployment", "shop-master", where, {**annotations, "spec": template})
        wait_for(
            lambda: (
                api.get("Deployment", "shop-master", where)["spec"]["template"]["metadata"][
                    "annotations"
                ]
                == {"a": "b"}
            ),
            why="the roll-back",
        )
        seen = operator.reconciles
        wait_for(lambda: operator.reconciles > seen + 3, why="more passes")
    assert operator.writes["Deployment/shop-master"] == 2
    assert operator.writes["Ingress/shop"] == 1
    assert api.get("Ingress", "shop", where)["metadata"]["annotations"]["mine"] == "x"
    rolled_back = api.get("Deployment", "shop-master", where)
    assert "mine" not in rolled_back["metadata"]["annotations"]
    assert rolled_back["spec"] == first["spec"]


def test_a_failed_task_pod_stays_until_someone_deletes_it(
    api: Api, operator: MendixOperator
) -> None:
    where = operator.namespace
    annotations = {"general": {STAY_ANNOTATION: "true"}}
    api.create(manifests.mendix_app("shop", where, customPodAnnotations=annotations))
    operator.reconcile()
    failed = wait_for(
        lambda: (
            p
            if (p := api.get("Pod", "shop-build", where)).get("status", {}).get("phase")
            == "Running"
            else None
        ),
        why="the build",
    )
    api.patch("Pod", "shop-build", where, {"status": {"phase": "Failed"}}, subresource="status")
    for _ in range(3):
        assert operator.reconcile() == 0
    assert api.get("Pod", "shop-build", where)["metadata"]["uid"] == failed["metadata"]["uid"]
    api.delete("Pod", "shop-build", where, grace=0)

    def again() -> bool:
        operator.reconcile()
        return bool(
            api.get("Pod", "shop-build", where)["metadata"]["uid"] != failed["metadata"]["uid"]
        )

    wait_for(again, why="a new build pod")


def test_deleting_the_app_deletes_all_that_it_owns(api: Api, operator: MendixOperator) -> None:
    where = operator.namespace
    api.create(manifests.mendix_app("shop", where))
    with operator.run():
        wait_for(lambda: api.get("Deployment", "shop-master", where), why="the Deployment")
        wait_for(lambda: api.get("Ingress", "shop", where), why="the Ingress")
        api.delete("MendixApp", "shop", where)
        wait_for(
            lambda: (
                not any(
                    api.list(kind, where)
                    for kind in ("Runtime", "Build", "StorageInstance", "Endpoint", "Ingress")
                )
                and {d["metadata"]["name"] for d in api.list("Deployment", where)}
                == {"mendix-operator", "mendix-agent"}
            ),
            seconds=60,  # It looks for new kinds only every 30 s.
            why="the garbage collector",
        )


def test_what_the_api_server_rejects_is_tried_again(api: Api, operator: MendixOperator) -> None:
    where = operator.namespace
    api.delete("ServiceAccount", "mendix-builder", where)
    api.create(manifests.mendix_app("shop", where))
    operator.reconcile()
    assert list(operator.denied) == ["Pod/shop-build"]
    assert "mendix-builder" in operator.denied["Pod/shop-build"]
    api.create(
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "mendix-builder", "namespace": where},
        }
    )

    def accepted() -> bool:
        operator.reconcile()
        return not operator.denied

    wait_for(accepted, why="the build pod")


def test_the_operator_does_not_mind_the_injector(
    api: Api, plane: ControlPlane, namespace: Namespace, injector: LinkerdInjector
) -> None:
    where = namespace("mendix", annotations=ENABLED)
    install(api, where, customPodAnnotations={"general": {"x.example.com/y": "z"}})
    operator = MendixOperator(plane.user("operator", ["system:masters"]), where)
    api.create(manifests.mendix_app("shop", where))
    for other in (manifests.backup_pod(where), manifests.installer_job(where)):
        api.create(other)
    with operator.run(every=0.05):
        wait_for(
            lambda: all(
                (o.get("status") or {}).get("phase") == "Done"
                for k in ("Build", "StorageInstance")
                for o in api.list(k, where) or [{}]
            ),
            why="the tasks to be done",
        )
        wait_for(
            lambda: api.get("Deployment", "shop-master", where)["status"].get("readyReplicas"),
            why="the app",
        )
        writes = operator.writes.copy()
        seen = operator.reconciles
        wait_for(lambda: operator.reconciles > seen + 5, why="more passes")
        assert operator.writes == writes
    assert max(writes.values()) <= 2
    for p in api.list("Pod", where):
        assert "linkerd-proxy" in names(p, "initContainers"), p["metadata"]["name"]


def test_a_webhook_that_changes_the_template_fights_the_operator(
    api: Api, operator: MendixOperator
) -> None:
    where = operator.namespace
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": where},
        "spec": {
            "reinvocationPolicy": "Never",
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": where}},
                "resourceRules": [
                    {
                        "apiGroups": ["apps"],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE", "UPDATE"],
                        "resources": ["deployments"],
                    }
                ],
            },
            "mutations": [
                {
                    "patchType": "JSONPatch",
                    "jsonPatch": {
                        "expression": """[JSONPatch{
                            op: "add",
                            path: "/spec/template/metadata/annotations",
                            value: {"linkerd.io/inject": "enabled"}}]"""
                    },
                }
            ],
        },
    }
    api.create(policy)
    api.create(
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingAdmissionPolicyBinding",
            "metadata": {"name": where},
            "spec": {"policyName": where},
        }
    )
    probe = manifests.operator_deployment(where)
    probe["metadata"]["name"] = "probe"
    wait_for(
        lambda: (
            api.create(probe, dry_run=True)["spec"]["template"]["metadata"].get("annotations")
            is not None
        ),
        why="the policy",
    )
    api.create(manifests.mendix_app("shop", where))
    try:
        # Now and then a write conflicts with the Deployment controller's, and is tried again.
        wait_for(
            lambda: operator.reconcile() and operator.writes["Deployment/shop-master"] == 5,
            why="the operator to write it again and again",
        )
    finally:
        api.delete("MutatingAdmissionPolicyBinding", where)
        api.delete("MutatingAdmissionPolicy", where)
