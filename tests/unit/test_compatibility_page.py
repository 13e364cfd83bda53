"""docs/compatibility.md: the table is the recorded one, and nothing else is claimed."""

import json
from pathlib import Path

import yaml

from docs import generate_compatibility
from tests.cluster import compatibility

CHART = Path(__file__).parents[2] / "charts" / "mendix-mesh" / "Chart.yaml"
RESULTS = json.loads(compatibility.RESULTS.read_text())


def test_the_table_is_written_from_the_recorded_results() -> None:
    assert generate_compatibility.page() == generate_compatibility.PAGE.read_text(), (
        "run `make docs`"
    )


def test_every_recorded_version_passed_and_can_be_run_again() -> None:
    assert set(RESULTS) <= set(compatibility.versions().values())
    assert all(found["passed"] and not found["failed"] for found in RESULTS.values())


def test_the_chart_installs_from_the_oldest_version_on_that_passed() -> None:
    oldest = next(iter(RESULTS)).rpartition(".")[0]
    assert yaml.safe_load(CHART.read_text())["kubeVersion"] == f">={oldest}.0-0"
    assert next(iter(compatibility.versions())) == oldest


def test_results_are_counted_from_pytest_s_own_words() -> None:
    tally = compatibility.Tally()
    tally.read(
        "left out: 3 need X (Kubernetes 1.36)\n1 failed, 5 passed, 3 deselected, 2 errors in 9.12s"
    )
    assert tally == {"passed": 5, "failed": 3, "X (Kubernetes 1.36)": 3}
    assert tally.left_out() == {"X (Kubernetes 1.36)": 3}
