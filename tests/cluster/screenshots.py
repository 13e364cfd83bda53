"""`make screenshots`: take the dashboard's pictures in docs/img again, from a real API server."""

import contextlib
import struct
import sys
import tempfile
import time
import zlib
from pathlib import Path

import httpx
from rich.console import Console

from tests import prometheus
from tests.cluster import build, dashboard, gallery, mesh, netns
from tests.cluster.api import wait_for
from tests.cluster.browser import PHONE, Reader, chromium
from tests.cluster.gallery import APPS, CRM, INGRESS, TEST
from tests.cluster.plane import ControlPlane
from tests.standins import mesh_metrics
from tests.standins.mesh_metrics import Exporter, linkerd_identity, linkerd_inbound

FOLDER = Path(__file__).parents[2] / "docs" / "img"
PAGES = {
    "overview": "/",
    "namespace": f"/namespaces/{APPS}",
    "workload": f"/workload?namespace={APPS}&kind=Deployment&name=shop-master",
    "denials": "/denials",
    "health": "/health",
    "check": "/checks/host-network",
}
#: The size of each page in pixels, and the maximum size of a picture in bytes.
SIZE = (1120, 840)
MOST = 160_000


def main() -> None:
    """Start a cluster, open the dashboard, and take the pictures."""
    FOLDER.mkdir(exist_ok=True)
    binaries = build.ensure(build.CORE, Console(stderr=True))
    netns.enter()
    with (
        tempfile.TemporaryDirectory(prefix="mendix-mesh-screenshots-") as folder,
        ControlPlane(Path(folder), binaries) as plane,
        mesh.installed(plane) as cluster,
        contextlib.ExitStack() as stack,
    ):
        named = [part for name in (APPS, TEST, CRM) for part in ("-n", name)]
        log = Path(folder) / "dashboard.log"
        exporter = stack.enter_context(mesh_metrics.serving(_traffic()))
        servers = [f"https://{one}" for one in cluster.kubelet.addresses()]
        metrics = stack.enter_context(
            prometheus.serving(Path(folder), scraped=[exporter.url, *servers])
        )
        options = (*named, "--interval", "5", "--prometheus", metrics.url)
        with dashboard.running(plane.kubeconfig, log, *options, waits=False) as url:
            gallery.populate(cluster, lambda: time.sleep(12))  # gives the history several points
            wait_for(
                lambda: (
                    "This is the first scan" not in httpx.get(url).text
                    and "has not run yet" not in httpx.get(f"{url}health").text
                ),
                seconds=30,
                why="the doctor",
            )
            time.sleep(12)
            _take(url)


def _traffic() -> Exporter:
    """Return the metrics of the proxies. Simulated nodes run no proxies."""
    exporter = Exporter()
    controller = linkerd_identity(INGRESS, "ingress-nginx")
    for namespace, app, client, number in (
        (APPS, "orders-master", controller, 4180), (APPS, "shop-master", controller, 2950),
        (APPS, "shop-master", "", 1214), (CRM, "crm-master", controller, 902),
    ):  # fmt: skip
        exporter.set("request_total", linkerd_inbound(namespace, app, client), number)
    return exporter


def _take(url: str) -> None:
    with chromium() as browser:
        for theme, dark, size in (
            ("light", False, SIZE), ("dark", True, SIZE), ("phone", False, PHONE),
        ):  # fmt: skip
            reader = Reader(browser, url, dark=dark, size=size)
            for name, path in PAGES.items():
                page = reader.open(path)
                if name == "namespace" and size == SIZE:
                    page.set_viewport_size({"width": SIZE[0], "height": 1060})
                else:
                    page.set_viewport_size({"width": size[0], "height": size[1]})
                file = FOLDER / f"dashboard-{name}-{theme}.png"
                file.write_bytes(smaller(page.screenshot()))
                print(f"{file.name}: {file.stat().st_size:,} bytes")
                if file.stat().st_size > MOST:
                    sys.exit(f"{file.name} has more than {MOST:,} bytes")
            reader.close()


def smaller(png: bytes) -> bytes:
    """Return the same picture with zlib's best compression. chromium uses a fast one."""
    made, pixels, at = [png[:8]], b"", 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        kind, data = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        at += 12 + length
        if kind == b"IDAT":
            pixels += data
            continue
        if kind == b"IEND":
            made.append(_chunk(b"IDAT", zlib.compress(zlib.decompress(pixels), 9)))
        made.append(_chunk(kind, data))
    return b"".join(made)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


if __name__ == "__main__":
    main()
