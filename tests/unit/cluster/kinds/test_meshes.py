"""The installed meshes are found by their injectors and agents."""

from pathlib import Path

import pytest

from tests.unit.cluster.hospital import Hospital
from webhook.cluster.kinds import meshes

ZTUNNEL = "/apis/apps/v1/namespaces/istio-system/daemonsets/ztunnel"


@pytest.mark.parametrize(
    ("injector", "ztunnel", "expected"),
    [
        ("linkerd", False, ["linkerd"]),
        ("istio", False, ["istio"]),
        ("istio", True, ["istio", "ambient"]),
        ("ambient", False, []),
    ],
)
def test_a_mesh_is_there_if_its_injector_or_ztunnel_is(
    tmp_path: Path, injector: str, ztunnel: bool, expected: list[str]
) -> None:
    world = Hospital(injector)
    if ztunnel:
        world.add(ZTUNNEL, {})
    with world.serving(tmp_path) as server:
        assert meshes.installed(server.cluster) == expected
