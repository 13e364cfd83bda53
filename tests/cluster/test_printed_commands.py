"""Every command that mendix-mesh prints works as printed.

A user follows the advice: each command that an output names is run, and then those that its own
output names, until nothing new is printed.
"""

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator

import click
import pytest

from tests.cluster import command
from tests.cluster.api import wait_for
from tests.cluster.mesh import MeshCluster
from tests.cluster.test_doctor import gone
from tests.cluster.test_story import settle
from tests.cluster.workloads import pod
from tests.standins import mendix
from tests.standins.linkerd import CONFIGURATION as LINKERD
from webhook.cli import main

pytestmark = pytest.mark.timeout(400)

_START = re.compile(r"\b(mendix-mesh|kubectl) ([^\n;,()\"`]+)")
#: One object, or all of a kind. A name has a hyphen, unlike the words of a sentence.
_KUBECTL = re.compile(
    r"kubectl( -n [\w-]+)? (get|describe|edit|label|annotate|delete|logs)"
    r" ([a-z.]+/[\w.-]+|[a-z.]+( [\w.]+-[\w.-]+)?)( [\w./-]+(=\S+|-))*( --overwrite)?( -o [a-z]+)?"
)
#: Exit code 1 of these reports what they found, or what could not be restarted.
_REPORTS = ("audit", "doctor", "restart", "review")
_SYSTEM = re.compile(r"default|kube-.*|mendix-mesh|cert-manager|linkerd|istio-system")
#: Not run: these serve until they are stopped.
_SERVERS = ("dashboard", "serve")


def named(text: str) -> Iterator[tuple[str, ...]]:
    """Yield the commands in a text, without the words of the sentence behind them."""
    # In JSON, the advice is in strings.
    for program, rest in _START.findall(text.replace("\\n", "\n")):
        words = rest.replace("'", "").split()
        for count in range(len(words), 0, -1):
            found = (program, *words[:count])
            if _parses(found):
                # `doctor -n NAMESPACE` is an example, and not the command `doctor`.
                if not any(word.isupper() for word in words[count : count + 2]):
                    yield found
                break


def _parses(found: tuple[str, ...]) -> bool:
    program, first, *rest = found
    if any(word.isupper() for word in rest):
        return False  # a placeholder
    if program == "kubectl":
        return bool(_KUBECTL.fullmatch(" ".join(found)))
    given = main.get_command(click.Context(main), first)
    if given is None:
        return False
    try:
        given.make_context(first, list(rest), resilient_parsing=False)
    except (click.UsageError, click.exceptions.Exit):
        return False
    return True


class User:
    """Runs commands, and notes what each one prints."""

    def __init__(self, cluster: MeshCluster) -> None:
        self.run = command.as_admin(cluster.plane)
        self.plane = cluster.plane
        self.done: set[tuple[str, ...]] = set()
        self.others = _namespaces(cluster)
        """Other tests' namespaces. What is printed of them is not run."""

    def follows(self, *first: str) -> set[str]:
        """Run commands and all that their outputs name. Return what was run, each in one line."""
        waiting = [(("mendix-mesh", *shlex.split(line)), "") for line in first]
        before = set(self.done)
        while waiting:
            one, because = waiting.pop(0)
            if one in self.done or one[1] in _SERVERS or not self.others.isdisjoint(one):
                continue
            self.done.add(one)
            try:
                output = self._output(one)
            except AssertionError as error:
                raise AssertionError(f"{' '.join(one)} was printed by {because}: {error}") from None
            # Without -n, a report is mostly about other tests' namespaces. Pages have examples.
            if one[1] != "explain" and (one[1] not in _REPORTS or "-n" in one):
                waiting += [(new, f"{' '.join(one)}: {output}") for new in named(output)]
        return {" ".join(one) for one in self.done - before}

    def _output(self, one: tuple[str, ...]) -> str:
        program, *arguments = one
        if program == "kubectl":
            kubectl = str(self.plane.binaries["kubectl"])
            environment = {**os.environ, "KUBECONFIG": str(self.plane.kubeconfig),
                           "KUBE_EDITOR": "true"}  # fmt: skip
            done = subprocess.run([kubectl, *arguments], check=False, capture_output=True,
                                  text=True, env=environment, timeout=60)  # fmt: skip
            assert done.returncode == 0, f"{' '.join(one)}: {done.stderr}"
            return ""
        asks = arguments[0] == "restart" or "--enroll" in arguments or "--fix" in arguments
        confirmed = [*arguments, "--yes"] if asks and "--yes" not in arguments else arguments
        # --strict changes nothing, with exit code 1, if a caller would be cut off.
        codes = (0, 1) if arguments[0] in _REPORTS or "--strict" in arguments else (0,)
        done_ = self.run(*confirmed, codes=(*codes, 2))
        if "give --mesh" in done_.err:
            # Other tests have enrolled namespaces in several meshes, so the user has to choose.
            done_ = self.run(*confirmed, "--mesh", "linkerd", codes=codes)
        assert done_.code in codes, done_.err
        return done_.out + done_.err


def _namespaces(cluster: MeshCluster) -> set[str]:
    names = {one["metadata"]["name"] for one in cluster.api.list("Namespace")}
    return {name for name in names if not _SYSTEM.fullmatch(name)}


@pytest.fixture
def user(mesh_cluster: MeshCluster) -> User:
    return User(mesh_cluster)


def test_advice_leads_from_plaintext_pods_to_a_namespace_in_the_mesh(
    mesh_cluster: MeshCluster, user: User
) -> None:
    """A namespace full of Mendix pods, not enrolled. Only printed commands are run."""
    namespace = mesh_cluster.plane.new_namespace("mendix")
    # The operator watches these kinds as soon as it starts.
    mendix.install_crds(mesh_cluster.api)
    operator = mendix.MendixOperator(
        mesh_cluster.plane.user("mendix-operator", ["system:masters"]), namespace
    )
    with operator.run():
        settle(mesh_cluster, namespace)
        api = mesh_cluster.api
        ended = {"status": {"phase": "Succeeded"}}
        api.patch("Pod", "crm-build", namespace, ended, subresource="status")
        run = user.follows("discover", f"discover -n {namespace}", f"doctor -n {namespace}")
        assert any("discover --enroll" in line for line in run)
        mesh_cluster.await_judge(namespace, "linkerd.warn")
        run |= user.follows(f"audit -n {namespace}", f"audit -n {namespace} -o json",
                            f"doctor -n {namespace}")  # fmt: skip
        assert f"mendix-mesh restart -n {namespace}" in run
        assert f"mendix-mesh discover --enroll --strict -n {namespace}" in run
        # What follows from that was printed too.
        user.done.clear()
        user.follows(f"audit -n {namespace}", f"doctor -n {namespace}")
        report = user.run.audit("-n", namespace)
        (found,) = report["namespaces"]
        assert found["coverage"] == 100, json.dumps(report, indent=1)


def test_advice_of_a_broken_cluster_works(mesh_cluster: MeshCluster, user: User) -> None:
    """The injector is gone, a pod is outside, names are misspelled."""
    namespace = mesh_cluster.enroll("warn")
    mesh_cluster.api.create(pod(namespace, "shop", hostNetwork=True))
    with gone(mesh_cluster.api, "MutatingWebhookConfiguration", LINKERD):
        user.follows(
            f"doctor -n {namespace}", f"audit -n {namespace}", f"doctor -n {namespace} -o json"
        )
    for arguments in (
        ("audit", "-n", "mendx"),
        ("doctor", "-n", "mendx"),
        ("restart", "-n", "mendx"),
    ):
        done = user.run(*arguments, codes=(2,))
        assert "mendx" in done.err
        for one in named(done.err):
            user.follows(shlex.join(one[1:])) if one[0] == "mendix-mesh" else user._output(one)
    wait_for(
        lambda: not user.run("doctor", "-n", namespace, codes=(0, 1)).code, why="a good doctor"
    )
