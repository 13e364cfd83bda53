"""Runs `mendix-mesh` like a user: as a separate process, with a kubeconfig and a user's rights."""

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.api import Api, Json, StatusError, core, wait_for
from tests.cluster.plane import ControlPlane

RIGHTS = Path(__file__).parents[2] / "docs" / "rbac.yaml"
ACCOUNT, NAMESPACE = "mendix-mesh-auditor", "mendix-mesh"


@dataclass(frozen=True)
class Done:
    """The result of a command that has ended."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """Return its output, parsed from JSON."""
        return json.loads(self.out)


@dataclass(frozen=True)
class Command:
    """Runs the command with the rights of a kubeconfig."""

    kubeconfig: Path

    def __call__(self, *arguments: str, codes: Sequence[int] = (0,)) -> Done:
        """Run it. Fail if the exit code is not in `codes`, or if there is a traceback."""
        done = subprocess.run(
            [sys.executable, "-m", "webhook", *arguments],
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
            timeout=110,
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode in codes, f"{done.returncode}: {done.stdout}{done.stderr}"
        return Done(done.returncode, done.stdout, done.stderr)

    def audit(self, *arguments: str, codes: Sequence[int] = (0, 1)) -> Json:
        """Run the audit and return the report."""
        report: Json = self("audit", *arguments, "-o", "json", codes=codes).data
        return report


def rights() -> list[Json]:
    """Return the objects in docs/rbac.yaml."""
    return list(yaml.safe_load_all(RIGHTS.read_text()))


def as_admin(plane: ControlPlane) -> Command:
    """Return the command with all rights."""
    return Command(plane.kubeconfig)


def as_account(
    plane: ControlPlane, *roles: str, name: str = ACCOUNT, server: str = "", ca: bytes = b""
) -> Command:
    """Return the command as a ServiceAccount with a token and these ClusterRoles of docs/rbac.yaml.

    The default account has the auditor's role from there. `server` and `ca` set another API server.
    """
    documents = rights()
    for obj in (core("Namespace", NAMESPACE), *documents):
        _apply(plane.api, obj)
    subject = {"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}
    if name != ACCOUNT:
        _apply(plane.api, core("ServiceAccount", name, NAMESPACE))
    for role in roles:
        _apply(
            plane.api,
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": f"{name}-{role}"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
                            "name": role},
                "subjects": [subject],
            },
        )  # fmt: skip
    given = {*roles, *([ACCOUNT] if name == ACCOUNT else [])}
    _await_rights(plane.api, name, [one for one in documents if one["metadata"]["name"] in given])
    token = plane.api.create_subresource(
        "ServiceAccount", name, NAMESPACE, "token",
        {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}},
    )["status"]["token"]  # fmt: skip
    folder = plane.workdir / f"account-{secrets.token_hex(4)}"
    folder.mkdir()
    (folder / "ca.crt").write_bytes(ca or plane.ca)
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "tests", "cluster": {"server": server or plane.server,
                                          "certificate-authority": str(folder / "ca.crt")}}
        ],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": name}}],
        "current-context": "tests",
    }  # fmt: skip
    (folder / "kubeconfig").write_text(json.dumps(content))
    return Command(folder / "kubeconfig")


def _await_rights(api: Api, account: str, roles: Sequence[Json]) -> None:
    """Wait until the API server applies these ClusterRoles, which takes a moment."""
    for rule in (rule for role in roles for rule in role.get("rules", ())):
        if "nonResourceURLs" in rule:
            requested = {"nonResourceAttributes": {"path": rule["nonResourceURLs"][0],
                                               "verb": rule["verbs"][0]}}  # fmt: skip
        else:
            resource, _, part = rule["resources"][0].partition("/")
            attributes = {
                "group": rule["apiGroups"][0],
                "resource": resource,
                "subresource": part,
                "verb": rule["verbs"][0],
                "name": rule.get("resourceNames", [""])[0],
            }
            requested = {"resourceAttributes": attributes}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "metadata": {},
            "spec": {"user": f"system:serviceaccount:{NAMESPACE}:{account}", **requested},
        }  # fmt: skip

        def allowed(review: Json = review) -> bool:
            return bool(api.create(review)["status"]["allowed"])

        wait_for(allowed, why=f"{account} to have its rights")


def _apply(api: Api, obj: Json) -> None:
    meta = obj["metadata"]
    try:
        api.patch(obj["kind"], meta["name"], meta.get("namespace"), obj, how="apply")
    except StatusError as denied:
        if denied.status.get("reason") != "AlreadyExists":
            raise
