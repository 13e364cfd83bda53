"""The commands of the guides, in the order in which a reader runs them: install, roll out, upgrade,
emergency, uninstall; then the quickstart.

The module takes the release that other tests share away, and puts it back at its end.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import demo_install
from tests.cluster.api import StatusError
from tests.cluster.certmanager import CertManager
from tests.cluster.guides import commands
from tests.cluster.mesh import MESH_LABEL, MODE_LABEL, MeshCluster

WHERE = "mendix-mesh"
GUIDES = {
    "install.md": ["Install"],
    "rollout.md": [
        "1. Audit: see what is outside",
        "2. Warn: tell the authors",
        "3. Enforce: close the gate",
    ],
    "upgrade.md": ["Upgrade", "In an emergency", "Uninstall"],
}
# No container runs here. test_chart.py runs the test pod's command.
NOT_TYPED = {"helm test mendix-mesh -n mendix-mesh"}


@pytest.fixture(scope="module")
def cluster(mesh_cluster: MeshCluster, cert_manager: CertManager) -> Iterator[MeshCluster]:
    """The cluster with cert-manager and Linkerd's stand-in, without mendix-mesh."""
    _clear(mesh_cluster)
    try:
        yield mesh_cluster
    finally:
        _clear(mesh_cluster)
        mesh_cluster.release.install()
        mesh_cluster.kubelet.wait_ready(2)
        mesh_cluster.await_judge(mesh_cluster.enroll("enforce"), "linkerd.enforce")


def _clear(cluster: MeshCluster) -> None:
    plane = cluster.plane
    plane.helm("uninstall", "mendix-mesh", f"--namespace={WHERE}", "--ignore-not-found")
    plane.kubectl("delete", "namespace", WHERE, "--ignore-not-found", "--wait", "--timeout=90s")


@pytest.mark.timeout(420)
def test_the_guides_lead_from_an_installation_to_its_end(
    cluster: MeshCluster, tmp_path: Path
) -> None:
    """Run `make demo-install`. Its scenes fail by themselves if a step goes wrong."""
    story = demo_install.play(cluster, tmp_path)
    for page, headings in GUIDES.items():
        for heading in headings:
            for block in commands(page, heading):
                for line in block.strip().splitlines():
                    assert line in NOT_TYPED or _is_typed(line, story.typed), line
    labels = cluster.api.get("Namespace", story.namespace)["metadata"]["labels"]
    assert not {MESH_LABEL, MODE_LABEL} & labels.keys()
    for kind, name in (
        ("ValidatingWebhookConfiguration", "mendix-mesh"),
        ("MutatingWebhookConfiguration", "00-mendix-mesh"),
        ("Namespace", WHERE),
    ):
        with pytest.raises(StatusError, match="not found"):
            cluster.api.get(kind, name)


def _is_typed(line: str, typed: list[str]) -> bool:
    """Whether a guide's line was typed, perhaps with more options at its end."""
    return any(one.startswith(line) for one in typed)
