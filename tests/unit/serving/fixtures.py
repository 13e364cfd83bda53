"""One server and one Flask application with the same settings, for serving and admission."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.unit.serving.clients import Client, FlaskClient, ServerClient
from tests.unit.serving.server import Server, running
from webhook.admission.app import create_app
from webhook.admission.metrics import Metrics
from webhook.admission.review import Reviewer
from webhook.cli._settings import read_settings
from webhook.serving.health import Health

#: Of namespaces that no other test uses.
SETTINGS = """
exemptions:
- reason: "node agent, ticket OPS-17"
  namespaces: [exempt]
  checks: [host-network, proxy-missing]
- reason: "was for the migration"
  namespaces: [was-exempt]
  checks: [host-network, proxy-missing]
  until: 2026-01-31
levels:
- reason: "no strangers here"
  namespaces: [strict]
  check: shared-identity
  level: deny
- reason: "not yet"
  namespaces: [lenient]
  check: host-network
  level: warning
"""


@pytest.fixture(scope="session")
def settings_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("settings") / "settings.yaml"
    file.write_text(SETTINGS)
    return file


@pytest.fixture(scope="session")
def running_server(
    settings_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, ServerClient]]:
    folder = tmp_path_factory.mktemp("server")
    with running(folder, "--settings", settings_file, "--log-level", "debug") as both:
        yield both


@pytest.fixture(scope="session")
def server_process(running_server: tuple[Server, ServerClient]) -> Server:
    """The process behind `server`."""
    return running_server[0]


@pytest.fixture
def server(running_server: tuple[Server, ServerClient]) -> Iterator[ServerClient]:
    """A client of a server that runs; afterwards it must still run, and have logged no trace."""
    process, client = running_server
    before = len(process.text)
    yield client
    assert client.get("/livez").status == 200
    assert len(process.workers) == 1, "the worker died"
    assert "Traceback" not in process.text[before:]


@pytest.fixture
def resident(server_process: Server) -> Callable[[], int]:
    """Return a function that reads the worker's memory, in KiB."""
    status = Path(f"/proc/{server_process.workers[-1]}/status")
    return lambda: int(re.findall(r"VmRSS:\s+(\d+)", status.read_text())[0])


@pytest.fixture(scope="session")
def reviewer(settings_file: Path) -> Reviewer:
    return Reviewer(read_settings(settings_file), Metrics("test"))


@pytest.fixture(scope="session")
def flask(reviewer: Reviewer) -> FlaskClient:
    """Flask alone, without the lane."""
    return FlaskClient(create_app(reviewer, Health()))


@pytest.fixture(params=["flask", "server"])
def client(request: pytest.FixtureRequest) -> Client:
    """Both clients: a test that uses this runs with each, and must get the same answers."""
    found: Client = request.getfixturevalue(request.param)
    return found
