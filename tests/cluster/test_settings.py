"""`discover --settings` with the meshes' own values, and the doctor with its output.

Istio's values are the real chart's, read by the real istiod. Linkerd's have the chart's shape, for
the stand-in.
"""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import yaml

from tests.cluster import command, guides
from tests.cluster.api import Json, core, wait_for
from tests.cluster.istio import REVISION, IstioCluster
from tests.cluster.istiod import TAG, Istiod
from tests.cluster.mesh import MeshCluster, configured
from tests.cluster.plane import ControlPlane
from tests.cluster.workloads import is_meshed, pod
from tests.standins.linkerd_config import InjectorConfig
from tests.standins.linkerd_values import config_map
from webhook.policy import checks, plaintext
from webhook.policy.settings import parse

MIRROR = "registry.example.com:5000/mesh"


@contextlib.contextmanager
def configured_by(cluster: MeshCluster, config: InjectorConfig) -> Iterator[None]:
    """Install Linkerd with these values, in its injector and its ConfigMap."""
    made = config_map(config)
    where, name = made["metadata"]["namespace"], made["metadata"]["name"]
    cluster.api.ensure(core("Namespace", where))
    cluster.plane.await_namespace(where)
    cluster.api.patch("ConfigMap", name, where, made, how="apply")
    before, cluster.injector.config = cluster.injector.config, config
    try:
        yield
    finally:
        cluster.injector.config = before
        cluster.api.delete("ConfigMap", name, where)


def printed(plane: ControlPlane, *arguments: str) -> Json:
    """Return the output of `discover --settings`, read as the server reads it."""
    done = command.as_admin(plane)("discover", "--settings", *arguments)
    assert done.err == ""
    values: Json = yaml.safe_load(done.out)
    parse(values["settings"], checks=checks.ids() | plaintext.ids())
    return values


def found_by_doctor(plane: ControlPlane, namespace: str) -> tuple[str, list[str]]:
    """Return whether a pod would be meshed, and the doctor's findings about the settings."""
    run = command.as_admin(plane)
    report = run("doctor", "-n", namespace, "-o", "json", codes=(0, 1)).data
    assert report["unchecked"] == []
    said = [one["evidence"] for one in report["findings"] if one["id"] == "settings-differ"]
    return report["namespaces"][0]["meshed"], said


def is_admitted(cluster: MeshCluster, namespace: str) -> bool:
    """Whether an injected pod would be stored now."""
    return not cluster.api.denial(pod(namespace))


def test_defaults_of_linkerd_need_no_settings(mesh_cluster: MeshCluster) -> None:
    with configured_by(mesh_cluster, mesh_cluster.injector.config):
        assert printed(mesh_cluster.plane) == {"settings": {}}


def test_with_the_printed_settings_pods_of_linkerd_are_admitted_and_nothing_differs(
    mesh_cluster: MeshCluster,
) -> None:
    settings = {"linkerd": {"proxyUid": 3000, "proxyGid": 3001}}
    cluster, plane = mesh_cluster, mesh_cluster.plane
    where = cluster.enroll("enforce")
    with configured_by(cluster, replace(cluster.injector.config, proxy_uid=3000, proxy_gid=3001)):
        values = printed(plane)
        assert values == {"settings": settings}
        assert not is_admitted(cluster, where)
        _, said = found_by_doctor(plane, where)
        assert all(f"settings.linkerd.{key} is " in said[0] for key in settings["linkerd"]), said
        assert yaml.safe_load(said[0].rpartition("to match the mesh: ")[2]) == values
        with configured(cluster, values, lambda: is_admitted(cluster, where)):
            assert found_by_doctor(plane, where) == ("yes", [])
            assert is_meshed(cluster.api.create(pod(where), dry_run=True))


def test_the_guides_commands_bring_the_settings_into_the_release(
    mesh_cluster: MeshCluster, tmp_path: Path
) -> None:
    cluster = mesh_cluster
    (block,) = guides.commands("install.md", "Match your mesh")
    reader = guides.Reader(cluster.plane, tmp_path, "mendix")
    program = tmp_path / "mendix-mesh"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m webhook "$@"\n')
    program.chmod(0o755)
    file = guides.ROOT / "mesh-settings.yaml"
    where = cluster.enroll("enforce")
    with configured_by(cluster, replace(cluster.injector.config, proxy_uid=3000)):
        try:
            reader.run(block)
            # The guide's helm does not wait for the new servers.
            cluster.plane.kubectl("-n", "mendix-mesh", "rollout", "status", "deploy/mendix-mesh")
            cluster.kubelet.wait_replaced(2)
            wait_for(lambda: is_admitted(cluster, where), why="the settings to be in use")
            assert found_by_doctor(cluster.plane, where) == ("yes", [])
            reviewed = subprocess.run(
                [sys.executable, "-m", "webhook", "review", "--settings", str(file), "-f", "-"],
                input=yaml.safe_dump({**pod(where), "metadata": {"name": "a", "namespace": where}}),
                check=False, capture_output=True, text=True,
            )  # fmt: skip
            assert reviewed.returncode in (0, 1), reviewed.stderr
        finally:
            file.unlink(missing_ok=True)
            cluster.release.upgrade()
            cluster.kubelet.wait_replaced(2)
            wait_for(lambda: not is_admitted(cluster, where), why="the old settings")


def test_defaults_of_istio_need_no_settings(istio_cluster: IstioCluster) -> None:
    cluster = istio_cluster
    with configured_by(cluster, cluster.injector.config):
        done = command.as_admin(cluster.plane)("discover", "--settings")
    assert done.out.splitlines() == [
        "# linkerd edge-26.8.3, read from ConfigMap linkerd/linkerd-config",
        f"# istio {TAG}, read from ConfigMap istio-system/istio-sidecar-injector, "
        "ConfigMap istio-system/istio",
        "# The defaults match the mesh.",
        "settings: {}",
    ]
    assert done.err == ""


VALUES: Json = {
    "global": {
        "hub": MIRROR,
        "proxy": {
            "excludeInboundPorts": "9100",
            "excludeOutboundPorts": "5432,6379",
            "excludeIPRanges": "10.1.0.0/16",
            "statusPort": 16020,
        },
    },
    "sidecarInjectorWebhook": {
        "templates": {"audited": "metadata:\n  labels:\n    audited: 'yes'\n"},
        "defaultTemplates": ["sidecar", "audited"],
    },
}
SETTINGS: Json = {
    "istio": {
        "excludeInboundPorts": "16020,9100",
        "excludeOutboundPorts": "5432,6379",
        "excludeOutboundIPRanges": ["10.1.0.0/16"],
        "templates": ["audited"],
        "revision": "prod",
    }
}


def test_with_the_printed_settings_pods_of_istio_are_admitted_and_nothing_differs(
    istio_plane: ControlPlane, mesh_cluster: MeshCluster
) -> None:
    """The mesh has no default revision, another mirror, and its own ports and templates."""
    plane = istio_plane
    with (
        Istiod(plane, revision="1-31", tags=["prod"], values=VALUES) as istiod,
        configured_by(mesh_cluster, mesh_cluster.injector.config),
    ):
        cluster = IstioCluster(**vars(mesh_cluster), istiod=istiod)
        where = cluster.enroll("enforce")
        # An istiod of the default revision may exist too. It must not inject here.
        cluster.api.patch("Namespace", where, None, {"metadata": {"labels": {REVISION: "prod"}}})
        values = printed(plane)
        # The istiod of another test may exist too, with its own images.
        images = values["settings"]["istio"].pop("proxyImages")
        assert f"{MIRROR}/proxyv2" in images
        # If one is the default revision, no revision has to be set.
        unnamed = {key: value for key, value in SETTINGS["istio"].items() if key != "revision"}
        assert values["settings"]["istio"] in (SETTINGS["istio"], unnamed)
        values["settings"]["istio"]["proxyImages"] = images
        assert not is_admitted(cluster, where)
        _, said = found_by_doctor(plane, where)
        texts = "\n".join(said)
        assert all(f"settings.istio.{key} is " in texts for key in values["settings"]["istio"]), (
            said
        )
        with configured(cluster, values, lambda: is_admitted(cluster, where)):
            assert found_by_doctor(plane, where) == ("yes", [])
            again = printed(plane)
            assert again == values
