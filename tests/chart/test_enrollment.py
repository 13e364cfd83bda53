"""What `discover` and `audit` take for enrolled is what the chart's selectors route."""

import itertools
import json
from typing import Any

import msgspec
import pytest

from tests.chart import helm
from tests.chart.test_routing import (
    MESH_LABELS,
    MODE_LABELS,
    NAMES,
    VALUE_SETS,
    expected,
    labels_of,
)
from webhook.cluster.kinds.inventory import Namespace
from webhook.cluster.namespaces.enrollment import Enrollment


@pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS.keys())
def test_every_namespace_is_told_as_it_is_routed(values: dict[str, Any]) -> None:
    configuration = helm.render(values).one("ValidatingWebhookConfiguration")
    enrollment = Enrollment.parse(json.dumps(configuration).encode())
    for name, mesh, mode in itertools.product(NAMES, MESH_LABELS, MODE_LABELS):
        labels = labels_of(name, mesh, mode)
        found = enrollment.of(
            msgspec.convert({"metadata": {"name": name, "labels": labels}}, Namespace)
        )
        told = found and (found.mesh, found.mode, "/ingress" if found.ingress else "")
        assert told == expected(name, mesh, mode, values), labels
