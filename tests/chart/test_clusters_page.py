"""docs/clusters.md and the values files for clouds: all that they say renders, and they agree."""

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
CLUSTERS = ("aks-istio", "eks-fargate", "eks-custom-cni", "gke", "one-node", "openshift")
#: The files for users, by their names in `matrix.SETS`.
CLOUDS = ("aks", "eks", "gke", "openshift")


@pytest.mark.parametrize("values", BLOCKS, ids=str)
def test_the_values_of_the_page_render(values: dict[str, Any]) -> None:
    rendered = helm.render(values)
    assert rendered.one("Deployment")


@pytest.mark.parametrize("name", CLUSTERS)
def test_each_set_of_values_for_a_cluster_is_on_the_page(name: str) -> None:
    assert any(block.items() <= matrix.values(name).items() for block in BLOCKS)


def variants(text: str) -> list[dict[str, Any]]:
    """Return the values in each paragraph of comments, below its explanation."""
    found = [re.search(r"(?:^# *[\w-]+:.*|\n# {2,}.*)[\s\S]*", part, re.MULTILINE)
             for part in text.split("\n\n") if part.startswith("# ")]  # fmt: skip
    return [yaml.safe_load(re.sub(r"^# ?", "", one[0], flags=re.MULTILINE)) for one in found if one]


@pytest.mark.parametrize("name", CLOUDS)
def test_what_a_values_file_has_in_comments_renders_too(name: str) -> None:
    file = matrix.FILES[name]
    assert f"values-{name}.yaml" in PAGE
    for more in variants(file.read_text()):
        helm.render({**matrix.values(name), **more})


def test_the_variants_in_comments_are_those_of_the_page() -> None:
    texts = [matrix.FILES[name].read_text() for name in CLOUDS]
    found = [one for text in texts for one in variants(text) if "networkPolicy" not in one]
    assert len(found) == 3
    assert [one for one in found if one not in BLOCKS] == []


def test_the_add_on_s_control_plane_is_never_reviewed() -> None:
    rendered = matrix.rendered("aks-istio")
    for webhook in helm.for_pods(rendered.one("ValidatingWebhookConfiguration")):
        excluded = [
            one["values"]
            for one in webhook["namespaceSelector"]["matchExpressions"]
            if one["key"] == "kubernetes.io/metadata.name" and one["operator"] == "NotIn"
        ]
        assert any("aks-istio-system" in names for names in excluded)
