"""Fixtures of the tests on a real cluster. One cluster serves the whole run.

The programs are built before the first test, because a cold build takes minutes and each test has a
time limit. Then the whole process moves permanently into a network namespace. If the programs are
not available, the tests that need them fail and say how to fix it.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster import build, mesh
from tests.cluster.api import Api
from tests.cluster.certmanager import CertManager
from tests.cluster.istio import IstioCluster
from tests.cluster.istiod import Istiod
from tests.cluster.plane import ControlPlane
from tests.console import uncaptured

_LEFT_OUT = pytest.StashKey[Counter[str]]()
_BINARIES = pytest.StashKey[dict[str, Path] | build.BuildError]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that need a newer Kubernetes than the cluster's."""
    left_out: list[pytest.Item] = []
    reasons = config.stash.setdefault(_LEFT_OUT, Counter())
    try:
        version = build.ALL["kube-apiserver"].version
    except build.BuildError as error:
        raise pytest.UsageError(str(error)) from None
    for item in items:
        for marker in item.iter_markers("kubernetes"):
            if version < tuple(map(int, marker.args[0].split("."))):
                left_out.append(item)
                reasons[f"{marker.kwargs['reason']} (Kubernetes {marker.args[0]})"] += 1
                break
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many tests were left out, and why."""
    for reason, count in terminalreporter.config.stash.get(_LEFT_OUT, Counter()).items():
        terminalreporter.write_line(f"left out: {count} need {reason}")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build before the first test if any test needs the cluster."""
    requested = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    if "plane" not in requested or session.config.option.collectonly:
        return
    programs = [*build.CORE, build.ISTIOD] if "istio_plane" in requested else build.CORE
    with uncaptured(session.config) as console:
        try:
            session.config.stash[_BINARIES] = build.ensure(programs, console)
            if "monitoring" in requested:
                build.monitoring_crds(console)
            if "gitops" in requested:
                build.gitops_crds(console)
        except build.BuildError as error:
            session.config.stash[_BINARIES] = error


@pytest.fixture(scope="session")
def binaries(pytestconfig: pytest.Config) -> dict[str, Path]:
    """Return the path of each program of the cluster."""
    found = pytestconfig.stash[_BINARIES]
    if isinstance(found, build.BuildError):
        pytest.fail(str(found), pytrace=False)
    return found


@pytest.fixture(scope="session")
def plane(
    binaries: dict[str, Path],
    own_network: None,
    tmp_path_factory: pytest.TempPathFactory,
    pytestconfig: pytest.Config,
) -> Iterator[ControlPlane]:
    """Yield a control plane with one simulated node. From here on, the outside is unreachable."""
    started = time.monotonic()
    with ControlPlane(tmp_path_factory.mktemp("plane"), binaries) as running:
        with uncaptured(pytestconfig) as console:
            console.print(f"\nTest cluster up in {time.monotonic() - started:.1f} s.")
        yield running
        running.check()


@pytest.fixture(scope="session")
def istio_plane(plane: ControlPlane) -> ControlPlane:
    """Return the control plane, with istiod built. Only tests with this fixture build istiod."""
    return plane


@pytest.fixture(scope="module")
def istiod(istio_plane: ControlPlane) -> Iterator[Istiod]:
    """Yield the real istiod of the default revision, as Istio's injector.

    It runs only for one module of tests, because other tests check which injectors exist.
    """
    with Istiod(istio_plane) as running:
        yield running


@pytest.fixture(scope="session")
def istio_crds(istio_plane: ControlPlane) -> None:
    """Install Istio's own CRDs."""
    istio_plane.define(build.istio_crds() / "crd-all.gen.yaml")


@pytest.fixture(scope="module")
def cert_manager(plane: ControlPlane) -> Iterator[CertManager]:
    """Yield the real cert-manager. What it issued stays after it ends."""
    with CertManager(plane) as running:
        yield running


@pytest.fixture(scope="session")
def monitoring(plane: ControlPlane) -> None:
    """Install the Prometheus operator's own CRDs, without the operator."""
    plane.define(build.monitoring_crds())


@pytest.fixture
def gitops(plane: ControlPlane) -> Iterator[None]:
    """Install Argo CD's and Flux' own CRDs for one test, without their controllers."""
    files = build.gitops_crds()
    plane.define(*files)
    yield
    plane.kubectl("delete", "--wait=false", *(f"--filename={file}" for file in files))


@pytest.fixture
def namespace(plane: ControlPlane) -> Callable[..., str]:
    """Return a function that creates a new namespace: ControlPlane.new_namespace."""
    return plane.new_namespace


@pytest.fixture(scope="session")
def mesh_cluster(plane: ControlPlane, pytestconfig: pytest.Config) -> Iterator[mesh.MeshCluster]:
    """Yield the cluster with mendix-mesh: our chart, our server, Linkerd's stand-in injector.

    mesh.installed connects all parts. No server must have crashed by the end of the run.
    """
    started = time.monotonic()
    with mesh.installed(plane) as cluster:
        with uncaptured(pytestconfig) as console:
            console.print(f"\nmendix-mesh installed in {time.monotonic() - started:.1f} s.")
        yield cluster
        assert cluster.kubelet.crashes == []


@pytest.fixture
def api(mesh_cluster: mesh.MeshCluster) -> Api:
    """Return a client, as cluster administrator."""
    return mesh_cluster.api


@pytest.fixture(scope="module")
def istio_cluster(mesh_cluster: mesh.MeshCluster, istiod: Istiod) -> IstioCluster:
    """Return the cluster with mendix-mesh, and the real istiod for one module."""
    return IstioCluster(**vars(mesh_cluster), istiod=istiod)
