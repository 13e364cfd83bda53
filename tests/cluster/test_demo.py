"""`make demo` succeeds. Its cluster has its own network: pods of two have the same addresses."""

import subprocess
import sys

import pytest


@pytest.mark.timeout(400)
@pytest.mark.usefixtures("istio_plane")  # which builds all programs before the first test
@pytest.mark.parametrize("mesh", ["linkerd", "istio"])
def test_every_scene_of_the_demo_succeeds(mesh: str) -> None:
    alone = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    command = [*alone, sys.executable, "-m", "tests.cluster.demo", "--mesh", mesh]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "All scenes succeeded" in done.stdout
