"""docs/compatibility.md: the table is the recorded one, and nothing else is claimed."""

import json
from pathlib import Path

import pytest
import yaml

from docs import generate_compatibility
from tests.cluster import compatibility

CHART = Path(__file__).parents[2] / "charts" / "mendix-mesh" / "Chart.yaml"
RESULTS = json.loads(compatibility.RESULTS.read_text())


def test_the_table_is_written_from_the_recorded_results() -> None:
    assert generate_compatibility.page() == generate_compatibility.PAGE.read_text(), (
        "run `make docs`"
    )


@pytest.mark.parametrize("product", [compatibility.KUBERNETES, compatibility.ISTIO])
def test_every_recorded_release_passed_and_can_be_run_again(product: compatibility.Product) -> None:
    recorded = RESULTS[product.name]
    assert recorded
    assert all(found["passed"] and not found["failed"] for found in recorded.values())
    known = compatibility.versions(product)
    assert {name: found["version"] for name, found in recorded.items()}.items() <= known.items()


def test_the_chart_installs_from_the_oldest_version_on_that_passed() -> None:
    oldest = next(iter(RESULTS["Kubernetes"]))
    assert yaml.safe_load(CHART.read_text())["kubeVersion"] == f">={oldest}.0-0"
    assert next(iter(compatibility.versions())) == oldest
