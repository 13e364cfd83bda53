"""`mendix-mesh audit`: its options, output and exit codes. Formats are compared with files.

After an intended change of a format, `make golden` writes the files again.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from tests.unit.cluster import mendix, policies
from tests.unit.cluster.world import BEFORE, CONFIGURATION, World, meshed, owned, unmeshed
from webhook.cli import main

GOLDEN = Path(__file__).parents[2] / "fixtures" / "audit"
FORMATS = {"table": "txt", "yaml": "yaml"}
SETTINGS = """\
exemptions:
- checks: [proxy-missing]
  namespaces: [mendix]
  selector: {matchLabels: {app: legacy}}
  reason: replaced in spring
"""


def story() -> World:
    """One of each state; `crm` must not be read."""
    world = World()
    world.install()
    world.config_map("mendix-mesh", "mendix-mesh-settings", settings_yaml=SETTINGS)
    world.namespace("mendix", "linkerd")
    world.namespace("ambient", "ambient", "warn")
    world.namespace("crm", "istio")
    world.namespace("others")
    app = {"app": "shop", "component": "mendix-app", "node-type": "master"}
    for name, pod, created in (("a", meshed(), BEFORE), ("b", unmeshed(), BEFORE)):
        pod["metadata"]["labels"] |= app
        world.pod("mendix", f"shop-master-7fd5-{name}", owned(pod, "Deployment", "shop-master"),
                  created=created)  # fmt: skip
    for number in range(5):
        world.pod("mendix", f"escaped-{number}", owned(unmeshed(), "StatefulSet", "escaped"))
    legacy = unmeshed()
    legacy["metadata"]["labels"]["app"] = "legacy"
    world.pod("mendix", "legacy-0", owned(legacy, "StatefulSet", "legacy"))
    starting = meshed()
    starting["status"] = {"initContainerStatuses": [{"name": "linkerd-proxy", "ready": False}]}
    world.pod("mendix", "mendix-agent-1", owned(starting, "Deployment", "mendix-agent"))
    world.pod("mendix", "odd", {"metadata": {}, "spec": {"containers": []}})["spec"] = {
        "containers": 7
    }
    world.pod("ambient", "fine", owned(meshed("ambient"), "DaemonSet", "fine"))
    cut = meshed("ambient")
    del cut["metadata"]["annotations"]["ambient.istio.io/redirection"]
    world.pod("ambient", "cut", cut)
    world.forbidden = ["/api/v1/namespaces/crm/pods", "/api/v1/namespaces/linkerd"]
    return world


def run(world: World, folder: Path, *arguments: str) -> Result:
    with world.serving(folder) as server:
        given = ["audit", "--kubeconfig", str(server.kubeconfig), *arguments]
        return CliRunner().invoke(main, given)


def output(form: str, folder: Path) -> str:
    outcome = run(story(), folder, "-o", form)
    assert outcome.exit_code == 1, outcome.output
    return outcome.stdout


@pytest.mark.parametrize(("form", "suffix"), FORMATS.items())
def test_the_output_is_as_it_was(tmp_path: Path, form: str, suffix: str) -> None:
    assert output(form, tmp_path) == (GOLDEN / f"story.{suffix}").read_text()


@pytest.mark.parametrize(
    ("names", "command"),
    [
        (["a"], "mendix-mesh restart -n a"),
        (["a", "b"], "mendix-mesh restart -n a -n b"),
        (["a", "b", "c", "d", "e", "f"], "mendix-mesh restart --enrolled"),
    ],
)
def test_one_command_brings_in_what_was_there_before(
    tmp_path: Path, names: list[str], command: str
) -> None:
    world = World()
    world.install()
    for name in names:
        world.namespace(name, "linkerd")
        world.pod(name, "shop-0", owned(unmeshed(), "StatefulSet", "shop"), created=BEFORE)
    last = run(world, tmp_path).stdout.splitlines()[-1]
    assert last == f"to restart the workloads that need it: {command}"


def test_json_and_yaml_say_the_same(tmp_path: Path) -> None:
    text = output("json", tmp_path)
    assert text.startswith('{\n  "namespaces": [\n    {\n      "name": "ambient",\n')
    assert json.loads(text) == yaml.safe_load(output("yaml", tmp_path))


# What is audited.


def names(outcome: Result) -> list[str]:
    return [one["name"] for one in json.loads(outcome.stdout)["namespaces"]]


def test_without_a_choice_the_enrolled_namespaces_are_audited(tmp_path: Path) -> None:
    assert names(run(story(), tmp_path, "-o", "json")) == ["ambient", "crm", "mendix"]


def test_namespaces_can_be_named(tmp_path: Path) -> None:
    outcome = run(story(), tmp_path, "-n", "others", "-n", "mendix", "-o", "json")
    assert names(outcome) == ["others", "mendix"]


def test_all_namespaces_can_be_audited(tmp_path: Path) -> None:
    outcome = run(story(), tmp_path, "-A", "-o", "json")
    assert names(outcome) == ["ambient", "crm", "mendix", "others"]


def test_what_is_not_expected_in_a_mesh_is_listed_without_numbers_and_advice(
    tmp_path: Path,
) -> None:
    """-A has also the namespaces of Kubernetes, the meshes and others."""
    world = good()
    mendix.define(world)
    for name in ("kube-system", "mendix-mesh", "stray", "empty"):
        world.namespace(name, "linkerd" if name == "empty" else "")
    for name in ("kube-system", "mendix-mesh", "stray"):
        world.pod(name, "a", unmeshed())
    mendix.resource(world, "StoragePlan", "stray", "postgres")
    outcome = run(world, tmp_path, "-A")
    lines = [" ".join(line.split()) for line in outcome.stdout.splitlines()]
    assert [line for line in lines if line.startswith(("empty", "kube", "mendix-", "stray"))] == [
        "empty linkerd enforce - 0 0 0 0 0 0 -",
        "kube-system - not enrolled - - - - - - - -",
        "mendix-mesh - not enrolled - - - - - - - -",
        "stray linkerd not enrolled 0% 1 0 0 1 0 0 -",
    ]
    assert "50% of 2 pods in the mesh" in outcome.stdout
    assert "kube-system/" not in outcome.stdout
    assert outcome.exit_code == 1
    del world.objects["/api/v1/namespaces/stray"]
    assert run(world, tmp_path, "-A").exit_code == 0


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("istio", "enroll the namespace: kubectl label namespace istio mendix-mesh.io/mesh=istio "
         "mendix-mesh.io/mode=warn"),
        ("kube-system", "the webhook excludes this namespace"),
    ],
)  # fmt: skip
def test_the_advice_for_a_namespace_that_is_not_enrolled_is_to_enroll_it_if_that_is_possible(
    tmp_path: Path, name: str, fix: str
) -> None:
    world = good()
    for entry in world.objects[CONFIGURATION]["webhooks"]:
        entry["namespaceSelector"]["matchExpressions"].append(
            {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system"]}
        )
    world.namespace("istio", labels={"istio-injection": "enabled"})
    world.namespace("kube-system")
    world.pod(name, "a", unmeshed("istio" if name == "istio" else "linkerd"))
    outcome = run(world, tmp_path, "-n", name)
    assert outcome.exit_code == 1
    assert f"      {fix}\n" in outcome.stdout
    assert "discover" not in outcome.stdout


def test_labels_that_no_pod_has_are_one_line_and_exit_code_2(tmp_path: Path) -> None:
    outcome = run(good(), tmp_path, "-l", "app=typo")
    assert (outcome.exit_code, outcome.stdout) == (2, "")
    assert outcome.stderr == ("Error: no running pod of these namespaces has the labels app=typo\n")


def test_a_namespace_whose_pods_are_forbidden_has_no_numbers(tmp_path: Path) -> None:
    lines = [" ".join(line.split()) for line in run(story(), tmp_path).stdout.splitlines()]
    assert "crm istio enforce not readable - - - - - - partly" in lines
    world = story()
    world.forbidden = ["/api/v1/namespaces/others"]
    lines = run(world, tmp_path, "-n", "others").stdout.splitlines()
    assert " ".join(lines[1].split()) == "others - - not readable - - - - - - -"


def test_mendixs_namespaces_can_be_audited(tmp_path: Path) -> None:
    world = story()
    mendix.define(world)
    mendix.resource(world, "StoragePlan", "others", "postgres")
    assert names(run(world, tmp_path, "--mendix", "-o", "json")) == ["others"]


@pytest.mark.parametrize(
    ("meta", "arguments", "mesh"),
    [
        ({}, (), "linkerd"),
        ({"labels": {"istio-injection": "enabled"}}, (), "istio"),
        ({}, ("--mesh", "ambient"), "ambient"),
    ],
)
def test_a_namespace_that_is_not_enrolled_is_judged_by_what_fits_it(
    tmp_path: Path, meta: dict[str, Any], arguments: tuple[str, ...], mesh: str
) -> None:
    world = World()
    world.install()
    world.namespace("others", **meta)
    outcome = run(world, tmp_path, "-n", "others", *arguments, "-o", "json")
    assert json.loads(outcome.stdout)["namespaces"][0]["mesh"] == mesh


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("-n", "missing"),
         "namespace missing does not exist; kubectl get namespaces lists all namespaces"),
        (("--mendix",), "nothing to audit: no namespace has a Mendix custom resource; select "
          "namespaces with -n or -A"),
        ((), "nothing to audit: no namespace is enrolled; enroll one with mendix-mesh discover "
         "--enroll, or select namespaces with -n, -A or --mendix"),
    ],
)  # fmt: skip
def test_nothing_to_audit_is_an_error_and_no_success(
    tmp_path: Path, arguments: tuple[str, ...], error: str
) -> None:
    outcome = run(World(), tmp_path, *arguments)
    assert outcome.exit_code == 2
    assert outcome.stderr.splitlines()[-1] == f"Error: {error}"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("-A", "-n", "a"), "give only one of -n, -A and --mendix"),
        (("-n", "../secrets"), "invalid namespace"),
        (("-l", "a=b", "--write-reports"), "remove -l"),
    ],
)
def test_options_that_contradict_each_other_are_rejected(
    tmp_path: Path, arguments: tuple[str, ...], error: str
) -> None:
    outcome = run(World(), tmp_path, *arguments)
    assert outcome.exit_code == 2
    assert error in outcome.stderr


def test_a_namespace_whose_reading_is_forbidden_is_reported(tmp_path: Path) -> None:
    world = story()
    world.forbidden = ["/api/v1/namespaces/others"]
    outcome = run(world, tmp_path, "-n", "others", "-n", "ambient", "-o", "json")
    assert outcome.exit_code == 1
    (others, ambient) = json.loads(outcome.stdout)["namespaces"]
    assert others["error"] == 'User "someone" cannot get /api/v1/namespaces/others'
    assert ambient["coverage"] == 50


def test_without_a_connection_it_ends_with_one_line_and_2(tmp_path: Path) -> None:
    outcome = CliRunner().invoke(main, ["audit", "--kubeconfig", str(tmp_path / "missing")])
    assert outcome.exit_code == 2
    assert outcome.stderr == (
        f"Error: no cluster: there is no kubeconfig {tmp_path / 'missing'}; give --kubeconfig, or "
        "set KUBECONFIG\n"
    )


def good() -> World:
    world = World()
    world.install()
    world.config_map("mendix-mesh", "mendix-mesh-settings", settings_yaml="{}")
    world.namespace("mendix", "linkerd")
    world.pod("mendix", "a", meshed())
    return world


def test_all_in_the_mesh_is_0(tmp_path: Path) -> None:
    outcome = run(good(), tmp_path)
    assert (outcome.exit_code, outcome.stderr) == (0, "")
    assert outcome.stdout.endswith("100% of 1 pod in the mesh (1 meshed)\n")


def test_advice_is_one_line(tmp_path: Path) -> None:
    world = good()
    old = meshed()
    old["metadata"]["annotations"]["linkerd.io/proxy-version"] = "edge-25.1.1"
    world.pod("mendix", "b", old, created=BEFORE)
    outcome = run(world, tmp_path)
    assert outcome.exit_code == 0
    assert "advice, with the number of pods: proxy-outdated 1\n" in outcome.stdout


@pytest.mark.parametrize(("plain", "colours"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_a_terminal_gets_a_progress_bar_beside_the_output(
    tmp_path: Path, plain: dict[str, str], colours: bool
) -> None:
    with good().serving(tmp_path) as server:
        terminal, theirs = os.openpty()
        options = ["--kubeconfig", str(server.kubeconfig)]
        command = [sys.executable, "-m", "webhook", "audit", *options]
        inherited = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
        done = subprocess.run(
            command, check=False, stdout=subprocess.PIPE, stderr=theirs, timeout=30,
            env={**inherited, "TERM": "xterm-256color", **plain},
        )  # fmt: skip
        os.close(theirs)
        shown = os.read(terminal, 100_000).decode()
        os.close(terminal)
    assert done.returncode == 0
    assert done.stdout.startswith(b"NAMESPACE  MESH ")
    assert "audited mendix" in shown
    assert "1/1" in shown
    assert bool(re.search(r"\x1b\[\d*;?\d*;?3\d", shown)) is colours


# The settings.


def test_the_settings_are_those_of_the_release(tmp_path: Path) -> None:
    outcome = run(story(), tmp_path, "-o", "json")
    assert json.loads(outcome.stdout)["pods"]["exempt"] == 1
    assert "default settings" not in outcome.stderr


@pytest.mark.parametrize(
    ("forbidden", "why"),
    [(["/api/v1/namespaces/platform"], 'User "someone" cannot get '), ([], "it does not exist")],
)
def test_settings_that_cannot_be_read_are_reported(
    tmp_path: Path, forbidden: list[str], why: str
) -> None:
    world = good()
    world.forbidden = forbidden
    outcome = run(world, tmp_path, "--release-namespace", "platform")
    assert outcome.exit_code == 0
    assert outcome.stderr.startswith(
        "Warning: using the default settings, because ConfigMap platform/mendix-mesh-settings "
        f"could not be read: {why}"
    )


def test_settings_can_be_a_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(SETTINGS + "  until: 2020-01-01\n")
    outcome = run(story(), tmp_path, "--settings", str(file), "-o", "json")
    assert json.loads(outcome.stdout)["pods"]["exempt"] == 0
    assert "expired on 2020-01-01 and has no effect" in outcome.stderr


def test_settings_of_the_release_that_are_wrong_are_reported(tmp_path: Path) -> None:
    world = good()
    world.config_map("mendix-mesh", "mendix-mesh-settings", settings_yaml="optOt: deny")
    outcome = run(world, tmp_path)
    assert outcome.exit_code == 2
    assert "ConfigMap mendix-mesh/mendix-mesh-settings: " in outcome.stderr
    assert "optOt" in outcome.stderr


# Reports.

GROUPS = {
    "openreports.io": ("openreports.io/v1alpha1", "reports", "Report"),
    "wgpolicyk8s.io": ("wgpolicyk8s.io/v1alpha2", "policyreports", "PolicyReport"),
}


def serve_reports(world: World, *groups: str) -> None:
    for group in groups:
        version, plural, _ = GROUPS[group]
        world.objects[f"/apis/{version}"] = {"metadata": {}, "resources": [{"name": plural}]}


@pytest.mark.parametrize(
    ("groups", "used"),
    [(["wgpolicyk8s.io"], "wgpolicyk8s.io"), (list(GROUPS), "openreports.io")],
)
def test_a_report_is_written_in_each_namespace_that_was_read(
    tmp_path: Path, groups: list[str], used: str
) -> None:
    world = story()
    serve_reports(world, *groups)
    outcome = run(world, tmp_path, "--write-reports")
    assert outcome.exit_code == 1
    assert "2 reports written, 0 removed" in outcome.stderr
    version, plural, kind = GROUPS[used]
    where = f"/apis/{version}/namespaces/{{}}/{plural}/mendix-mesh"
    assert where.format("crm") not in world.objects
    report = world.objects[where.format("mendix")]
    assert (report["apiVersion"], report["kind"]) == (version, kind)
    (owner,) = report["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("ValidatingWebhookConfiguration", "mendix-mesh")
    results = [result["result"] for result in report["results"]]
    assert results == sorted(results, key=["fail", "error", "warn", "skip", "pass"].index)
    assert report["summary"] == {
        key: results.count(key) for key in ("pass", "fail", "warn", "error", "skip")
    }
    assert {"fail", "error", "warn", "skip"} <= set(results)
    fail = report["results"][0]
    assert fail["resources"] == [
        {"apiVersion": "apps/v1", "kind": "Deployment", "namespace": "mendix",
         "name": "shop-master"}
    ] or fail["resources"][0]["kind"] == "StatefulSet"  # fmt: skip


def test_reports_of_namespaces_that_are_no_longer_audited_are_removed(tmp_path: Path) -> None:
    world = good()
    serve_reports(world, "wgpolicyk8s.io")
    ours = {"labels": {"app.kubernetes.io/managed-by": "mendix-mesh"}}
    where = "/apis/wgpolicyk8s.io/v1alpha2/namespaces/gone/policyreports/{}"
    world.add(where.format("mendix-mesh"), {"metadata": dict(ours)})
    world.add(where.format("others"), {"metadata": {}})
    named = run(world, tmp_path, "--write-reports", "-n", "mendix")
    assert "1 reports written, 0 removed" in named.stderr
    every = run(world, tmp_path, "--write-reports")
    assert "1 reports written, 1 removed" in every.stderr
    assert where.format("mendix-mesh") not in world.objects
    assert where.format("others") in world.objects


def test_a_cluster_without_reports_is_reported(tmp_path: Path) -> None:
    outcome = run(good(), tmp_path, "--write-reports")
    assert outcome.exit_code == 2
    assert "the cluster has no CRD reports.openreports.io or policyreports.wgpolicyk8s.io" in (
        outcome.stderr
    )


def test_a_report_that_must_not_be_written_is_reported(tmp_path: Path) -> None:
    world = good()
    serve_reports(world, "wgpolicyk8s.io")
    world.forbidden = ["/apis/wgpolicyk8s.io/v1alpha2/namespaces/mendix"]
    outcome = run(world, tmp_path, "--write-reports")
    assert outcome.exit_code == 0
    assert "Warning: report not written: mendix: User" in outcome.stderr


def test_a_report_says_the_same_when_nothing_has_changed(tmp_path: Path) -> None:
    world = good()
    serve_reports(world, "wgpolicyk8s.io")
    written = []
    for _ in range(2):
        run(world, tmp_path, "--write-reports")
        where = "/apis/wgpolicyk8s.io/v1alpha2/namespaces/mendix/policyreports/mendix-mesh"
        written.append(json.dumps(world.objects[where]))
    assert written[0] == written[1]


def test_plaintext_that_the_settings_deny_is_a_failure(tmp_path: Path) -> None:
    world = World()
    world.install()
    demanded = "levels: [{check: plaintext-accepted, level: deny, reason: none}]"
    world.config_map("mendix-mesh", "mendix-mesh-settings", settings_yaml=demanded)
    world.namespace("mendix", "istio")
    world.pod("mendix", "shop", meshed("istio"))
    table = run(world, tmp_path)
    assert table.exit_code == 1
    assert "✘ plaintext accepted by mendix" in table.stdout
    serve_reports(world, "openreports.io")
    assert run(world, tmp_path, "--write-reports").exit_code == 1
    report = world.objects["/apis/openreports.io/v1alpha1/namespaces/mendix/reports/mendix-mesh"]
    (result,) = (one for one in report["results"] if one["rule"] == "plaintext-accepted")
    assert (result["rule"], result["result"]) == ("plaintext-accepted", "fail")
    assert result["resources"] == [{"apiVersion": "v1", "kind": "Namespace", "name": "mendix"}]
    assert report["summary"]["fail"] == 1


def test_a_rule_that_makes_clients_speak_plaintext_is_shown(tmp_path: Path) -> None:
    world = World()
    world.install()
    world.namespace("mendix", "istio")
    world.pod("mendix", "shop", meshed("istio"))
    policies.peer(world, "mendix", "all", "STRICT")
    policies.rule(world, "mendix", "shop", "shop", "DISABLE")
    outcome = run(world, tmp_path)
    assert outcome.exit_code == 0
    assert "! client-plaintext  DestinationRule mendix/shop" in outcome.stdout
    assert "plaintext gets" not in outcome.stdout


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        for each, ending in FORMATS.items():
            (GOLDEN / f"story.{ending}").write_text(output(each, Path(made)))
