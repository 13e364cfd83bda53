"""The Go modules that build older Kubernetes and Istio. They are generated, not committed.

The go.mod and go.sum of such a release pin everything that it needs, except Kubernetes' staging
modules (k8s.io/api, …), which have its version. From them comes a module that requires only the
release. Go completes its go.sum, whose checksum is in tools/*/older.txt. So any other byte in any
module fails the build, as with a committed go.sum of 400 lines.
"""

import hashlib
import re
from pathlib import Path
from typing import NamedTuple

PINS = "older.txt"
_BEGIN = "module mendix-mesh.io/older\n\ngo 1.26.0"


class Pin(NamedTuple):
    """What an older release is built from."""

    #: The version of the Go module, without the "v".
    version: str
    #: The SHA-256 of the complete go.sum.
    checksum: str
    #: Modules with the version that is used because the release's own can't be had: module@v1.2.3.
    others: tuple[str, ...]


def pins(folder: Path) -> dict[str, Pin]:
    """Return the older releases in a folder under tools/ by name, like 1.30, the oldest first."""
    lines = (line.split() for line in (folder / PINS).read_text().splitlines() if line[:1] != "#")
    return {name: Pin(version, sha, tuple(others)) for name, version, sha, *others in lines}


def begin(folder: Path) -> None:
    """Create a folder with a module that requires nothing, in which Go can download one."""
    folder.mkdir()
    (folder / "go.mod").write_text(f"{_BEGIN}\n")


def write(folder: Path, module: str, pin: Pin, original: Path) -> None:
    """Write the go.mod and go.sum that require a module, from those in the module's own folder."""
    text = (original / "go.mod").read_text()
    # Its programs behave as with the Go version for which they were written.
    godebug = re.search(r"\bdefault=go(\S+)", text) or re.search(
        r"^go (\d+\.\d+)", text, re.MULTILINE
    )
    assert godebug
    staging = re.findall(r"^\s+(k8s\.io/\S+) v0\.0\.0(?:\s|$)", text, re.MULTILINE)
    replaced = dict.fromkeys(staging, f"v0.{pin.version.partition('.')[2]}")
    for other in pin.others:
        name, _, found = other.partition("@")
        replaced[name] = found
    lines = [f"godebug default=go{godebug[1]}", f"require {module} v{pin.version}"]
    lines += (f"replace {name} => {name} {found}" for name, found in replaced.items())
    (folder / "go.mod").write_text("\n\n".join([_BEGIN, *lines]) + "\n")
    (folder / "go.sum").write_bytes((original / "go.sum").read_bytes())


def checksum(folder: Path) -> str:
    """Return the checksum of the module's go.sum."""
    return hashlib.sha256((folder / "go.sum").read_bytes()).hexdigest()
