"""The real Prometheus and its promtool, of the package `prometheus` of Debian and Ubuntu."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx
import yaml

from tests.cluster.process import Process
from tests.requirements import not_run

#: Seconds between two scrapes.
SCRAPE = 0.25


class Server(NamedTuple):
    """A Prometheus that runs."""

    url: str

    def get(self, where: str, **query: str) -> Any:
        """The data of an answer of its API; AssertionError with its words where it has none."""
        answer = httpx.post(f"{self.url}/api/v1/{where}", data=query, timeout=10).json()
        assert answer["status"] == "success", f"{answer.get('error')}: {query}"
        return answer["data"]

    def wait_for_scrapes(self, seconds: float) -> None:
        """Wait until so much more has been scraped with success, however slow the machine is."""
        query = 'sum_over_time(up{job="proxies"}[1h])'

        def number() -> float:
            found = self.get("query", query=query)["result"]
            return float(found[0]["value"][1]) if found else 0

        wanted = number() + seconds / SCRAPE + 1
        for _ in range(600):
            if number() >= wanted:
                return
            time.sleep(0.1)
        raise TimeoutError("prometheus does not scrape")


def program(name: str) -> str:
    """Where a program of the package is; without it the test is not run."""
    found = shutil.which(name)
    return found or not_run(f"there is no {name}: apt-get install prometheus")


def promtool(*arguments: str | Path) -> str:
    """What promtool prints; AssertionError with all of it where it fails."""
    done = subprocess.run(
        [program("promtool"), *arguments], check=False, text=True, timeout=60,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


@contextmanager
def serving(folder: Path, *, scraped: Sequence[str] = (), recorded: str = "") -> Iterator[Server]:
    """Run Prometheus until the block ends: scraping URLs, or over recorded OpenMetrics."""
    data = folder / "data"
    if recorded:
        (folder / "recorded.txt").write_text(recorded)
        promtool("tsdb", "create-blocks-from", "openmetrics", folder / "recorded.txt", data)
    config = folder / "prometheus.yml"
    config.write_text(yaml.safe_dump(_configuration(scraped)))
    port = _free_port()
    process = Process(
        "prometheus",
        [program("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={data}",
         f"--web.listen-address=127.0.0.1:{port}", "--storage.tsdb.retention.time=100y"],
        log=folder / "prometheus.log",
    )  # fmt: skip
    try:
        _wait(process, f"http://127.0.0.1:{port}/-/ready")
        yield Server(f"http://127.0.0.1:{port}")
    finally:
        process.stop()


def _configuration(scraped: Sequence[str]) -> dict[str, Any]:
    parts = [urlsplit(one) for one in scraped]
    job = {
        "job_name": "proxies",
        "scrape_interval": f"{int(SCRAPE * 1000)}ms",
        "scrape_timeout": f"{int(SCRAPE * 1000)}ms",
        # The series bring the labels that a mesh's scrape configuration gives them.
        "honor_labels": True,
        "static_configs": [
            {
                "targets": [one.netloc],
                "labels": {"__scheme__": one.scheme, "__metrics_path__": one.path or "/metrics"},
            }
            for one in parts
        ],
        "tls_config": {"insecure_skip_verify": True},
    }
    return {"scrape_configs": [job] if scraped else []}


def _wait(process: Process, url: str) -> None:
    for _ in range(300):
        process.check()
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise TimeoutError(f"prometheus is not ready:\n{process.tail()}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
