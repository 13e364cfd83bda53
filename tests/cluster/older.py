"""The Go module that builds an older Kubernetes. It is generated, not committed.

Kubernetes' own go.mod and go.sum pin everything that it needs, except its staging modules
(k8s.io/api, …), which have its own version. From them comes a module that requires only Kubernetes.
Go completes its go.sum, whose checksum is in tools/kubernetes/older.txt. So any other byte in any
module fails the build, as with a committed go.sum of 400 lines.
"""

import hashlib
import re
from pathlib import Path

PINS = Path(__file__).parent / "tools" / "kubernetes" / "older.txt"
MODULE = "k8s.io/kubernetes"
_BEGIN = "module mendix-mesh.io/older\n\ngo 1.26.0"


def pins() -> dict[str, tuple[str, str]]:
    """Return version and checksum of each older version, by major and minor, the oldest first."""
    lines = (line.split() for line in PINS.read_text().splitlines() if line[:1] != "#")
    return {version.rpartition(".")[0]: (version, checksum) for version, checksum in lines}


def begin(folder: Path) -> None:
    """Create a folder with a module that requires nothing, in which Go can download one."""
    folder.mkdir()
    (folder / "go.mod").write_text(f"{_BEGIN}\n")


def write(folder: Path, version: str, original: Path) -> None:
    """Write the module's go.mod and go.sum, from those in the folder of Kubernetes' source."""
    text = (original / "go.mod").read_text()
    # Its programs behave as with the Go version for which they were written.
    godebug = re.search(r"\bdefault=go(\S+)", text) or re.search(
        r"^go (\d+\.\d+)", text, re.MULTILINE
    )
    assert godebug
    staging = re.findall(r"^\s+(k8s\.io/\S+) v0\.0\.0(?:\s|$)", text, re.MULTILINE)
    lines = [f"godebug default=go{godebug[1]}", f"require {MODULE} v{version}"]
    lines += (f"replace {name} => {name} v0.{version.partition('.')[2]}" for name in staging)
    (folder / "go.mod").write_text("\n\n".join([_BEGIN, *lines]) + "\n")
    (folder / "go.sum").write_bytes((original / "go.sum").read_bytes())


def checksum(folder: Path) -> str:
    """Return the checksum of the module's go.sum."""
    return hashlib.sha256((folder / "go.sum").read_bytes()).hexdigest()
