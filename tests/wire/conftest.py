"""The cluster with real proxies, for this folder's tests. If it cannot be had, they say why."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import build
from tests.cluster.api import Json
from tests.cluster.istiod import NAMESPACE
from tests.console import uncaptured
from tests.image.buildah import Image, ImageError, Store
from tests.node import settings
from tests.node.machine import missing
from tests.node.node import Node
from tests.wire import images
from tests.wire.cluster import PLUGIN, PROGRAMS, WireCluster, istiod, running

_PROGRAMS = pytest.StashKey[dict[str, Path] | build.BuildError | ImageError]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build and download before the first test, if any test needs it and it can be had."""
    requested = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    if "wire" not in requested or session.config.option.collectonly or missing():
        return
    with uncaptured(session.config) as console:
        try:
            found = build.ensure(PROGRAMS, console)
            images.envoy()
            session.config.stash[_PROGRAMS] = found
        except (build.BuildError, ImageError) as error:
            session.config.stash[_PROGRAMS] = error


@pytest.fixture(scope="package")
def wire(
    on_this_machine: None,
    image: Image,
    image_store: Store,
    own_network: None,
    tmp_path_factory: pytest.TempPathFactory,
    pytestconfig: pytest.Config,
) -> Iterator[WireCluster]:
    """Two real nodes with istiod, Envoys and mendix-mesh. Nothing outside can be reached."""
    programs = pytestconfig.stash[_PROGRAMS]
    if isinstance(programs, build.BuildError | ImageError):
        pytest.fail(str(programs), pytrace=False)
    started = time.monotonic()
    with running(tmp_path_factory.mktemp("wire"), programs, image_store, image) as cluster:
        with uncaptured(pytestconfig) as console:
            taken = time.monotonic() - started
            console.print(f"\nReal proxies with mendix-mesh up in {taken:.1f} s.")
        yield cluster


@pytest.fixture(scope="module")
def plugin(wire: WireCluster) -> Iterator[None]:
    """Istio's CNI plugin on the captured node, and a revision of Istio whose pods rely on it."""
    node = wire.nodes[1]
    before = settings.conflist(node.machine).read_text()
    _install(wire, node, json.loads(before))
    with istiod(wire.plane, revision=PLUGIN, pilot={"cni": {"enabled": True}}):
        yield
    settings.conflist(node.machine).write_text(before)


def _install(wire: WireCluster, node: Node, network: Json) -> None:
    """Add the plugin after the first, as its installer does. containerd reads it at once."""
    folder = node.machine.workdir / "istio-cni"
    folder.mkdir(exist_ok=True)
    wire.plane.write_kubeconfig(folder / "istio-cni-kubeconfig", "istio-cni", ["system:masters"])
    program = node.machine.workdir / "cni-programs/istio-cni"
    program.unlink(missing_ok=True)
    program.symlink_to(wire.plane.binaries["istio-cni"])
    network["plugins"].insert(
        1,
        {
            "type": "istio-cni",
            "plugin_log_level": "info",
            "cni_agent_run_dir": str(folder),
            "ambient_enabled": False,
            "exclude_namespaces": [NAMESPACE, "kube-system"],
            "pod_namespace": NAMESPACE,
        },
    )
    settings.conflist(node.machine).write_text(json.dumps(network))
