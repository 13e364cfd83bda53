"""The files of a release, which `make release-check` writes into build/release.

They are the packaged chart with its digest, an SBOM of the libraries in the image (CycloneDX), and
their licenses. The same commit and the same libraries give the same files.

There is no manifest for krew: krew installs programs that run on their own, but the command needs
Python and its libraries.
"""

import datetime
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL

from tests.cluster import build
from webhook.version import VERSION

ROOT = Path(__file__).parents[1]
#: Files of a package that have its license.
_TEXTS = re.compile(r"LICEN[SC]E", re.IGNORECASE)


class Library(NamedTuple):
    """A library in the image, as requirements/runtime.txt pins it."""

    name: str
    version: str
    #: An SPDX expression; empty if it is unknown.
    license: str


def libraries() -> Iterator[Library]:
    """Yield every library in the image. Its license is that of the installed package."""
    lock = (ROOT / "requirements" / "runtime.txt").read_text()
    for name, version in re.findall(r"^([a-z0-9][a-z0-9._-]*)==(\S+)", lock, re.MULTILINE):
        found = license_of(metadata.metadata(name).get_all)
        yield Library(name, version, _which_bsd(name) if found == "BSD License" else found)


def license_of(fields: Callable[[str], list[str] | None]) -> str:
    """Return the license of a package: the expression, the old field, or the classifier."""
    classifiers = [one for one in fields("Classifier") or [] if one.startswith("License")]
    ends = [re.sub(r"^MIT License$", "MIT", one.split(" :: ")[-1]) for one in classifiers]
    (expression,) = fields("License-Expression") or [""]
    (old,) = fields("License") or [""]
    # The old field can contain the whole text of a license.
    return expression or (old if re.fullmatch(r"[\w.-]+", old) else " AND ".join(ends))


def _which_bsd(name: str) -> str:
    """Return which BSD license a package has, by its text; empty if it has no text."""
    files = metadata.files(name) or []
    texts = [file.read_text() for file in files if _TEXTS.search(file.name)]
    if not texts:
        return ""
    return f"BSD-{3 if 'Neither the name' in texts[0] else 2}-Clause"


def sbom(found: list[Library], at: datetime.datetime) -> str:
    """Return a CycloneDX document of these libraries, as JSON."""
    names = {one.name for one in found}
    licenses = LicenseFactory()
    parts = {
        one.name: Component(
            name=one.name,
            version=one.version,
            purl=PackageURL("pypi", None, one.name, one.version),
            bom_ref=one.name,
            licenses=[licenses.make_from_string(one.license)] if one.license else [],
        )
        for one in found
    }
    own = Component(
        name="mendix-mesh",
        version=VERSION,
        type=ComponentType.APPLICATION,
        bom_ref="mendix-mesh",
        licenses=[licenses.make_from_string("Apache-2.0")],
    )
    bom = Bom(components=parts.values(), serial_number=uuid.uuid5(uuid.NAMESPACE_OID, repr(found)))
    bom.metadata.component, bom.metadata.timestamp = own, at
    for component in (own, *parts.values()):
        needed = sorted(_needs(component.name) & names)
        bom.register_dependency(component, [parts[name] for name in needed])
    return make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=2)


def _needs(name: str) -> set[str]:
    """Return the names of the packages that an installed package requires."""
    required = (re.match(r"[\w.-]+", one) for one in metadata.requires(name) or ())
    return {re.sub(r"[_.-]+", "-", one[0]).lower() for one in required if one}


def write(folder: Path) -> list[str]:
    """Write the files, and return a line about each."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    at, found = _date(), list(libraries())
    bill = folder / f"mendix-mesh-{VERSION}.cdx.json"
    bill.write_text(sbom(found, at) + "\n")
    licenses = folder / "licenses.txt"
    licenses.write_text("".join(f"{' '.join(one)}\n" for one in found))
    chart = _package(folder, at)
    digest = hashlib.sha256(chart.read_bytes()).hexdigest()
    (folder / f"{chart.name}.sha256").write_text(f"{digest}  {chart.name}\n")
    return [
        f"{bill.name}: SBOM of {len(found)} libraries (CycloneDX 1.6)",
        f"{licenses.name}: {', '.join(sorted({one.license for one in found}))}",
        f"{chart.name}: sha256:{digest}",
    ]


def _date() -> datetime.datetime:
    """Return the time of the commit, as for a reproducible build."""
    given = os.environ.get("SOURCE_DATE_EPOCH") or subprocess.check_output(
        ["git", "log", "-1", "--format=%ct"], cwd=ROOT, text=True
    )
    return datetime.datetime.fromtimestamp(int(given), datetime.UTC)


def _package(folder: Path, at: datetime.datetime) -> Path:
    """Package the chart. Helm keeps the times of the files, so they get the commit's."""
    helm = build.ensure(["helm"])["helm"]
    with tempfile.TemporaryDirectory() as copy:
        source = shutil.copytree(ROOT / "charts" / "mendix-mesh", Path(copy) / "mendix-mesh")
        for path in source.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
            os.utime(path, (at.timestamp(), at.timestamp()))
        command: list[str | Path] = [helm, "package", source, "--destination", folder]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder / f"mendix-mesh-{VERSION}.tgz"
