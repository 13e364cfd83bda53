"""A dashboard over a cluster in memory."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from tests.unit.cluster import mendix
from tests.unit.cluster.apiserver import ScriptedServer
from tests.unit.cluster.dashboard.reports import NOW
from tests.unit.cluster.hospital import Hospital
from webhook.cluster.auditor.history import Scans
from webhook.cluster.dashboard import create_app
from webhook.cluster.judge import Judge
from webhook.policy.settings import Settings

Open = Callable[..., FlaskClient]


@pytest.fixture
def world() -> Hospital:
    """Two namespaces of Mendix's, of which one is enrolled."""
    made = Hospital()
    mendix.define(made)
    made.namespace("mendix", "linkerd")
    made.namespace("stray")
    for name in ("mendix", "stray"):
        mendix.resource(made, "StoragePlan", name, "postgres")
    return made


@pytest.fixture
def server(world: Hospital, tmp_path: Path) -> Iterator[ScriptedServer]:
    """Its API server."""
    with world.serving(tmp_path) as running:
        yield running


@pytest.fixture
def open_on(server: ScriptedServer) -> Open:
    """Open the dashboard with some scans. Return a client that reads its pages."""

    def opened(scans: Scans, **options: object) -> FlaskClient:
        given = {"clock": lambda: NOW, **options}
        app = create_app(scans, server.cluster, Judge(Settings()), **given)  # type: ignore[arg-type]
        app.testing = True
        return app.test_client()

    return opened
