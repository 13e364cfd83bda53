"""`helm test` in a real container of the image, through the real Service."""

import yaml

from tests.cluster.api import Json, wait_for
from tests.cluster.helm import CHART, IMAGE
from tests.node.installed import NAMESPACE, NodeCluster

HOST = f"mendix-mesh.{NAMESPACE}.svc"


def test_its_pod_has_a_pod_opted_in_and_another_denied(nodes: NodeCluster) -> None:
    rendered = nodes.plane.helm(
        *("template", "mendix-mesh", str(CHART), f"--namespace={NAMESPACE}"),
        "--show-only=templates/tests/review.yaml",
        f"--set=image.repository={IMAGE},image.pullPolicy=Never",
    )
    pod: Json = yaml.safe_load(rendered.stdout)
    # These nodes have no DNS.
    pod["spec"]["hostAliases"] = [{"ip": nodes.service_ip, "hostnames": [HOST]}]
    nodes.api.create(pod)
    name = pod["metadata"]["name"]
    try:
        ended = wait_for(lambda: _ended(nodes, name), seconds=60, why="the test to end")
        log = nodes.log_of(nodes.api.get("Pod", name, NAMESPACE))
        said = log.read()
        log.close()
        assert said.splitlines() == [
            "ok   a pod is opted in",
            "ok   a pod outside the mesh is denied",
        ]
        assert ended == "Succeeded"
    finally:
        nodes.api.delete("Pod", name, NAMESPACE)


def _ended(nodes: NodeCluster, name: str) -> str:
    phase: str = nodes.api.get("Pod", name, NAMESPACE)["status"].get("phase", "")
    return phase if phase in ("Succeeded", "Failed") else ""
