"""docs/clusters.md: its values render, and each set in ci/ for a kind of cluster is on the page."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart import helm, matrix

PAGE = (Path(__file__).parents[2] / "docs" / "clusters.md").read_text()
BLOCKS: list[dict[str, Any]] = [
    yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
]
#: Sets of values for a kind of cluster. Their other values have nothing to do with it.
CLUSTERS = ("aks-istio", "eks-fargate", "eks-custom-cni", "gke-autopilot", "one-node", "openshift")


@pytest.mark.parametrize("values", BLOCKS, ids=str)
def test_the_values_of_the_page_render(values: dict[str, Any]) -> None:
    rendered = helm.render(values)
    assert rendered.one("Deployment")


@pytest.mark.parametrize("name", CLUSTERS)
def test_each_set_of_values_for_a_cluster_is_on_the_page(name: str) -> None:
    assert any(block.items() <= matrix.values(name).items() for block in BLOCKS)


def test_the_add_on_s_control_plane_is_never_reviewed() -> None:
    rendered = matrix.rendered("aks-istio")
    for webhook in helm.for_pods(rendered.one("ValidatingWebhookConfiguration")):
        excluded = [
            one["values"]
            for one in webhook["namespaceSelector"]["matchExpressions"]
            if one["key"] == "kubernetes.io/metadata.name" and one["operator"] == "NotIn"
        ]
        assert any("aks-istio-system" in names for names in excluded)
