"""Runs the commands in the guides, as if a reader copied them into a shell in the checkout."""

import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

from tests.cluster.plane import KUBELET_ANNOTATION, ControlPlane

ROOT = Path(__file__).parents[2]

# Adds the values to each installation that let the test cluster run the server's pods.
_HELM = """#!/bin/sh
case "$1" in install|upgrade) set -- "$@" --values {values};; esac
exec {helm} "$@"
"""


def commands(page: str, heading: str) -> list[str]:
    """Return the shell blocks of a section of a page in docs/, up to the next heading."""
    text = (ROOT / "docs" / page).read_text()
    _, _, section = text.partition(f"# {heading}\n")
    assert section, f"docs/{page} has no heading {heading!r}"
    return re.findall(
        r"```sh\n(.*?)```", re.split(r"^#", section, flags=re.MULTILINE)[0], re.DOTALL
    )


class Reader:
    """A shell for a guide's commands. NAMESPACE in them stands for the reader's own namespace."""

    def __init__(
        self, plane: ControlPlane, home: Path, namespace: str, *, folder: Path = ROOT
    ) -> None:
        """Set where the reader types: in the checkout, or in a folder for what a guide writes."""
        self._namespace, self._folder = namespace, folder
        values = home / "values.yaml"
        ours = {"podAnnotations": {KUBELET_ANNOTATION: "server"}, "preStopSleepSeconds": 1}
        values.write_text(yaml.safe_dump(ours))
        program = home / "helm"
        program.write_text(_HELM.format(values=values, helm=plane.binaries["helm"]))
        program.chmod(0o755)
        # The folder of this Python has the command, too.
        own = str(Path(sys.executable).parent)
        path = [str(home), str(plane.binaries["kubectl"].parent), own, os.defpath]
        self._environment = {
            "PATH": os.pathsep.join(path),
            "HOME": str(home),
            "KUBECONFIG": str(plane.kubeconfig),
        }

    def of(self, block: str) -> str:
        """Return the block with the values of this reader."""
        return block.replace("NAMESPACE", self._namespace)

    def run(self, block: str) -> str:
        """Run a block and return its output. Raise AssertionError with the output if it fails."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.of(block)],
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self._folder,
            env=self._environment,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}"
        return done.stdout
