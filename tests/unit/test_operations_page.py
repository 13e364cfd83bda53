"""docs/operations.md says what the server does."""

from pathlib import Path

import pytest

from webhook.admission import acceptor, health, protocol, review
from webhook.admission.metrics import Metrics
from webhook.cli.serve import COMMAND
from webhook.policy.namespaces import Left, Standing

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
    assert review.BODY_LIMIT == 7 << 20
    assert protocol.Protocol.spare_bytes == 64 << 10
    assert protocol.Protocol.request_seconds == 10
    assert protocol.Protocol.most_connections == 1000
    assert acceptor.Acceptor.silence == 10
    assert health._MARGIN.total_seconds() == 60
