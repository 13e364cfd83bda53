"""`discover` and `audit` count a namespace as enrolled if the chart's selectors route it."""

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
def test_every_namespace_is_reported_as_it_is_routed(values: dict[str, Any]) -> None:
    configuration = helm.render(values).one("ValidatingWebhookConfiguration")
    enrollment = Enrollment.parse(json.dumps(configuration).encode())
    for name, mesh, mode in itertools.product(NAMES, MESH_LABELS, MODE_LABELS):
        labels = labels_of(name, mesh, mode)
        found = enrollment.of(
            msgspec.convert({"metadata": {"name": name, "labels": labels}}, Namespace)
        )
        routed = found and (found.mesh, found.mode, "/ingress" if found.ingress else "")
        assert routed == expected(name, mesh, mode, values), labels
