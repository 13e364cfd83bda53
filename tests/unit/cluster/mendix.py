"""Mendix's custom resources and operators in a `World`."""

from tests.standins import mendix_manifests as manifests
from tests.unit.cluster.world import World

GROUP = "/apis/privatecloud.mendix.com"


def define(world: World) -> None:
    """Add the CRDs, as discovery lists them."""
    version = {"groupVersion": manifests.VERSION, "version": "v1alpha1"}
    world.objects[GROUP] = {"metadata": {}, "kind": "APIGroup", "preferredVersion": version}
    resources = [{"name": plural} for plural in manifests.KINDS.values()]
    world.objects[f"{GROUP}/v1alpha1"] = {"metadata": {}, "resources": resources}


def resource(world: World, kind: str, namespace: str, name: str) -> None:
    """Add a custom resource."""
    where = f"{GROUP}/v1alpha1/namespaces/{namespace}/{manifests.KINDS[kind]}/{name}"
    world.add(where, {"metadata": {}})


def operator(world: World, namespace: str, image: str = "") -> None:
    """Add the operator's Deployment, with another image if one is given."""
    deployment = manifests.operator_deployment(namespace)
    if image:
        deployment["spec"]["template"]["spec"]["containers"][0]["image"] = image
    world.add(f"/apis/apps/v1/namespaces/{namespace}/deployments/mendix-operator", deployment)
