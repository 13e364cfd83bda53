"""`mendix-mesh version`: the versions of the command, the server and the chart."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.unit.cluster.world import World
from webhook.cli import main
from webhook.version import VERSION

CONFIGURATION = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/mendix-mesh"
DEPLOYMENT = "/apis/apps/v1/namespaces/mendix-mesh/deployments/mendix-mesh"


@pytest.fixture
def world() -> World:
    made = World()
    service = {"namespace": "mendix-mesh", "name": "mendix-mesh", "path": "/validate"}
    made.add(CONFIGURATION, {
        "metadata": {"labels": {"app.kubernetes.io/version": "0.0.9"}},
        "webhooks": [{"name": "x", "clientConfig": {"service": service}}],
    })  # fmt: skip
    container = {"name": "mendix-mesh", "image": "registry/mendix-mesh:v0.0.8"}
    made.add(DEPLOYMENT, {"spec": {"template": {"spec": {"containers": [container]}}}})
    return made


def run(world: World, folder: Path, *arguments: str) -> Result:
    with world.serving(folder) as server:
        return CliRunner().invoke(
            main, ["version", f"--kubeconfig={server.kubeconfig}", *arguments]
        )


def test_it_shows_client_server_and_chart(world: World, tmp_path: Path) -> None:
    done = run(world, tmp_path)
    assert done.stdout == f"client  {VERSION}\nserver  0.0.8\nchart   0.0.9\n"
    assert "server and client differ" in done.stderr
    data = json.loads(run(world, tmp_path, "-o", "json").stdout)
    assert data == {"client": VERSION, "server": "0.0.8", "chart": "0.0.9"}


def test_a_server_whose_reading_is_forbidden_is_shown_with_the_reason(
    world: World, tmp_path: Path
) -> None:
    world.forbidden.append("/apis/apps")
    done = run(world, tmp_path)
    assert done.exit_code == 0
    assert "server  (" in done.stdout
    assert "chart   0.0.9" in done.stdout


def test_a_cluster_without_it_says_so(tmp_path: Path) -> None:
    done = run(World(), tmp_path)
    assert (done.exit_code, done.stdout) == (0, f"client  {VERSION}\n")
    assert "not installed" in done.stderr


def test_the_client_s_own_version_needs_no_cluster() -> None:
    done = CliRunner().invoke(main, ["version", "--client"])
    assert (done.exit_code, done.stdout) == (0, f"client  {VERSION}\n")
