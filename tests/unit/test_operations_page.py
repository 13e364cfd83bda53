"""docs/operations.md describes what the server does."""

from pathlib import Path

import pytest

from webhook.admission.metrics import Metrics
from webhook.cli.serve import COMMAND
from webhook.policy.namespaces import Left, Standing
from webhook.serving import health, http
from webhook.serving.connection import Connection
from webhook.serving.table import Table

PAGE = Path("docs/operations.md").read_text()


def test_every_metric_is_there_with_its_labels() -> None:
    metrics = Metrics("test")
    metrics.review("validate", "linkerd", "enforce", "Pod", "denied")
    metrics.violation("linkerd", "enforce", "host-network")
    metrics.left_enforcement(Left(Standing("linkerd", "enforce"), None))
    for family in metrics.registry.collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{name}` |"))
        labels = [key for key in family.samples[0].labels if key != "le"]
        assert row.split("|")[2].strip() == ", ".join(labels), name


def test_no_metric_is_there_that_does_not_exist() -> None:
    known = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in Metrics("test").registry.collect()
    }
    shown = {line.split("`")[1] for line in PAGE.splitlines() if line.startswith("| `mendix_mesh_")}
    assert shown == known


@pytest.mark.parametrize("option", ["--drain-seconds", "--tls-server-name"])
def test_the_options_that_it_names_exist(option: str) -> None:
    assert option in PAGE
    assert any(option in parameter.opts for parameter in COMMAND.params)


def test_the_bounds_that_it_names_hold() -> None:
    assert http.BODY_LIMIT == 7 << 20
    assert http.SPARE_BYTES == 64 << 10
    assert Table.most_held == 64 << 20
    assert (Table.places, Table.reserve) == (1000, 100)
    assert Connection.handshake_seconds == Connection.request_seconds == 10
    assert Connection.write_seconds == 10
    assert health._MARGIN.total_seconds() == 60
    assert health._UNSERVED == 600
