"""A cluster with an example of everything that the dashboard shows.

It has apps in the mesh, an app and a platform that are older than the enrollment, a namespace in
mode warn, a namespace that is not enrolled, an ingress controller, and a controller whose pods are
denied. Linkerd's injector and the Mendix Operator are stand-ins.
"""

import time
from collections.abc import Callable

from tests.cluster.api import Json, core, wait_for
from tests.cluster.mesh import MESH_LABEL, MODE_LABEL, MeshCluster
from tests.cluster.plane import STAY_ANNOTATION, is_ready
from tests.cluster.workloads import pod, workload
from tests.standins import mendix
from tests.standins import mendix_manifests as manifests

APPS, TEST, CRM, NEW, INGRESS = "mendix-apps", "mendix-test", "crm", "mendix-new", "ingress-nginx"


def populate(cluster: MeshCluster, pause: Callable[[], None] = lambda: None) -> None:
    """Create everything, and wait until the pods run. `pause` is called between the steps."""
    api = cluster.api
    mendix.install_crds(api)
    for name in (APPS, TEST, CRM, NEW):
        _namespace(cluster, name)
        api.create(manifests.custom_resource("StoragePlan", "postgres", name, {}))
    _namespace(cluster, INGRESS, annotations={"linkerd.io/inject": "enabled"})
    controller = workload("Deployment", INGRESS, "ingress-nginx-controller")
    labels = {"app.kubernetes.io/name": "ingress-nginx"}
    controller["spec"]["template"]["metadata"]["labels"] |= labels
    api.create(controller)
    for account in manifests.service_accounts(APPS):
        api.ensure(account)

    # Workloads that are older than the enrollment.
    api.create(manifests.operator_configuration(APPS))
    api.create(manifests.operator_deployment(APPS))
    _app(cluster, APPS, "shop", replicas=2)
    old = workload("Deployment", APPS, "reports", replicas=1, hostNetwork=True)
    api.create(old)
    backup = manifests.backup_pod(APPS)
    api.create(backup)
    _app(cluster, TEST, "acceptance")
    _await(cluster, APPS, 5)
    _await(cluster, TEST, 1)
    pause()
    for name, mode in ((APPS, "enforce"), (TEST, "warn"), (CRM, "enforce")):
        cluster.relabel(name, f"linkerd.{mode}", mode=mode)

    # Workloads that are newer: the agent, more pods of the app, another app, and tasks.
    api.create(manifests.agent_deployment(APPS))
    shop = _pods(cluster, APPS, "shop-master")[0]
    api.delete("Pod", shop["metadata"]["name"], APPS, grace=0)
    _app(cluster, APPS, "orders", replicas=2)
    pause()
    for kind, task in (
        ("Build", manifests.build_pod("orders", APPS)),
        ("StorageInstance", manifests.storage_pod("orders", "database", APPS)),
    ):
        name = task["metadata"]["name"]
        owner = api.create(manifests.custom_resource(kind, name, APPS, {}))
        reference = {key: owner[key] for key in ("apiVersion", "kind")}
        reference |= {key: owner["metadata"][key] for key in ("name", "uid")}
        task["metadata"]["ownerReferences"] = [{**reference, "controller": True}]
        task["metadata"].setdefault("annotations", {})[STAY_ANNOTATION] = "true"
        api.create(task)
    for account in manifests.service_accounts(CRM):
        api.ensure(account)
    api.create(manifests.operator_deployment(CRM))
    api.create(manifests.agent_deployment(CRM))
    _app(cluster, CRM, "crm", replicas=2)
    # A pod that is created in the second of the enrollment counts as older.
    time.sleep(1.1)
    api.create(pod(TEST, "shop-debug", hostNetwork=True))
    _await(cluster, CRM, 4)
    _await(cluster, TEST, 2)
    _await(cluster, APPS, 10)

    # A controller that wants more pods than the webhook admits.
    api.patch("Deployment", "reports", APPS, {"spec": {"replicas": 2}}, subresource="scale")
    wait_for(
        lambda: [e for e in api.list("Event", APPS, fields="reason=FailedCreate")
                 if "host-network" in e["message"]],
        why="a pod of reports to be denied",
    )  # fmt: skip


def _namespace(cluster: MeshCluster, name: str, **meta: Json) -> None:
    metadata = {"name": name, **meta}
    cluster.api.create({**core("Namespace", name), "metadata": metadata})
    cluster.plane.await_namespace(name)


def _app(cluster: MeshCluster, namespace: str, env: str, *, replicas: int = 1) -> None:
    """Create an environment's leader with its Service and Ingress, as the operator does."""
    api = cluster.api
    api.create(manifests.app_deployment(env, namespace, replicas=replicas))
    api.create(manifests.app_service(env, namespace))
    api.create(manifests.app_ingress(env, namespace))


def _pods(cluster: MeshCluster, namespace: str, prefix: str = "") -> list[Json]:
    return [
        one for one in cluster.api.list("Pod", namespace)
        if one["metadata"]["name"].startswith(prefix)
    ]  # fmt: skip


def _await(cluster: MeshCluster, namespace: str, number: int) -> None:
    wait_for(
        lambda: sum(
            is_ready(one) or one["status"].get("phase") == "Running"
            for one in _pods(cluster, namespace)
        ) >= number,
        seconds=60,
        why=f"{number} pods of {namespace}",
    )  # fmt: skip


def unlabel(cluster: MeshCluster) -> None:
    """Remove the namespaces from the mesh, because other tests count the enrolled ones."""
    for name in (APPS, TEST, CRM):
        unlabel_one(cluster, name)


def unlabel_one(cluster: MeshCluster, name: str) -> None:
    """Remove a namespace from the mesh, and wait until no webhook judges its pods."""
    labels = {MESH_LABEL: None, MODE_LABEL: None}
    cluster.api.patch("Namespace", name, None, {"metadata": {"labels": labels}})
    cluster.await_judge(name, "")


def label_one(cluster: MeshCluster, name: str) -> None:
    """Enroll it again."""
    cluster.relabel(name, "linkerd.enforce", mode="enforce")
