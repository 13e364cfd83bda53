"""The chart as helm renders it: values in, objects or an error out.

Every set of values is rendered once per test run, with `IMAGE` unless it names another image. `CA`
stands in for a CA, because the chart only checks its shape. `OWN` are the values of a user who
brings a certificate.
"""

import atexit
import base64
import functools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.cluster import build

CHART = Path(__file__).parents[2] / "charts" / "mendix-mesh"
CA = "-----BEGIN CERTIFICATE-----\nMIIBdGVzdA==\n-----END CERTIFICATE-----\n"
CA_BUNDLE = base64.b64encode(CA.encode()).decode()
IMAGE = "registry.example.com/mendix-mesh"
#: The version of the test cluster's API server.
KUBERNETES = ".".join(map(str, build.ALL["kube-apiserver"].version))
OWN = {"tls": {"source": "secret", "caBundle": CA}}

Object = dict[str, Any]
Values = Mapping[str, Any]


class RenderError(Exception):
    """Helm did not render. The text is what the user sees."""


@dataclass(frozen=True)
class Rendered:
    """The objects of a release, and the template files that they came from."""

    text: str
    objects: tuple[Object, ...]
    sources: tuple[str, ...]

    def of_kind(self, kind: str) -> list[Object]:
        """All objects of a kind."""
        return [found for found in self.objects if found["kind"] == kind]

    def one(self, kind: str, *, auditor: bool = False) -> Object:
        """Return the only object of a kind; with `auditor`, the one of the auditor."""
        (found,) = (one for one in self.of_kind(kind) if is_auditors(one) == auditor)
        return found


def is_auditors(found: Object) -> bool:
    """Whether an object is the auditor's."""
    labels: dict[str, str] = found["metadata"].get("labels", {})
    return labels.get("app.kubernetes.io/name") == "mendix-mesh-auditor"


def for_pods(configuration: Object) -> list[Object]:
    """Return the webhooks of a configuration for objects in namespaces, not for Namespaces."""
    return [one for one in configuration["webhooks"] if one["rules"][0]["scope"] == "Namespaced"]


def render(
    values: Values | None = None,
    *,
    namespace: str = "mendix-mesh",
    release: str = "mendix-mesh",
    kubernetes: str = KUBERNETES,
    schema: bool = True,
) -> Rendered:
    """Render as `helm template` does. Raise RenderError."""
    options = ["--namespace", namespace, "--kube-version", kubernetes]
    if not schema:
        options.append("--skip-schema-validation")
    return _rendered(_json(values), release, tuple(options))


def notes(values: Values | None = None) -> str:
    """Return the notes that the user reads after an installation."""
    options = ("--namespace", "mendix-mesh", "--dry-run=client")
    out = _helm(("install", "mendix-mesh", str(CHART), *options), _json(values))
    return out.split("\nNOTES:\n", 1)[1]


def lint(values: Values | None = None) -> str:
    """The words of `helm lint --strict`."""
    return _helm(("lint", str(CHART), "--strict"), _json(values))


def error_of(values: Values | None = None, **how: Any) -> str:
    """Return the message with which the chart rejects these values."""
    try:
        render(values, **how)
    except RenderError as error:
        return str(error)
    message = f"the chart rendered with {values}"
    raise AssertionError(message)


def _json(values: Values | None) -> str:
    given = dict(values or {})
    given["image"] = {"repository": IMAGE, **(given.get("image") or {})}
    return json.dumps(given, sort_keys=True)


@functools.cache
def _rendered(values: str, release: str, options: Sequence[str]) -> Rendered:
    text = _helm(("template", release, str(CHART), *options), values)
    documents = [part for part in text.split("---\n# Source: ") if part.strip()]
    sources = tuple(part.splitlines()[0] for part in documents)
    objects = tuple(yaml.safe_load(part.split("\n", 1)[1]) for part in documents)
    return Rendered(text, objects, sources)


def _helm(arguments: Sequence[str], values: str) -> str:
    command = [*_program(), *arguments, "--values", "-"]
    done = subprocess.run(
        command, input=values, capture_output=True, text=True, check=False, env=_environment()
    )
    if done.returncode:
        raise RenderError(done.stderr + done.stdout)
    return done.stdout


@functools.cache
def _program() -> tuple[str]:
    return (str(build.ensure(["helm"])["helm"]),)


@functools.cache
def _environment() -> dict[str, str]:
    """Helm's folders in a throw-away place, so that no plugin or setting of the user counts."""
    home = tempfile.mkdtemp(prefix="helm-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    folders = {f"HELM_{kind}_HOME": f"{home}/{kind}" for kind in ("CACHE", "CONFIG", "DATA")}
    return {"PATH": os.environ["PATH"], "HOME": home, "KUBECONFIG": os.devnull, **folders}
