"""`mendix-mesh review`: the webhook's decisions, offline."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from tests.standins import mendix_manifests
from tests.standins.linkerd import InjectorConfig, inject
from webhook.cli import main

ENROLLED = """\
apiVersion: v1
kind: Namespace
metadata: {name: mendix, labels: {mendix-mesh.io/mesh: linkerd}}
"""
POD = """\
apiVersion: v1
kind: Pod
metadata: {name: shop, namespace: mendix}
spec: {containers: [{name: app, image: app}]}
"""
HOST_NETWORK = POD.replace("spec: {", "spec: {hostNetwork: true, ")


def run(*arguments: str, stdin: str | bytes = "") -> Result:
    return CliRunner().invoke(main, ["review", *arguments], input=stdin)


def results(*arguments: str, stdin: str = "") -> list[dict[str, Any]]:
    outcome = run(*arguments, "-f", "-", "-o", "json", stdin=stdin)
    assert outcome.exit_code in (0, 1), outcome.output
    found: list[dict[str, Any]] = json.loads(outcome.stdout)["results"]
    return found


def test_the_json_is_that_of_the_design() -> None:
    outcome = run("-f", "-", "-o", "json", stdin=POD)
    document = json.loads(outcome.stdout)
    assert document["summary"] == {"admitted": 1, "denied": 0}
    (result,) = document["results"]
    assert {key: result[key] for key in list(result)[:9]} == {
        "source": "-#0",
        "line": 1,
        "kind": "Pod",
        "namespace": "mendix",
        "name": "shop",
        "mesh": "linkerd",
        "mode": "enforce",
        "verdict": "admitted",
        "patch": [
            {
                "op": "add",
                "path": "/metadata/annotations",
                "value": {"linkerd.io/inject": "enabled", "mendix-mesh.io/inputs": "allowed"},
            }
        ],
    }
    assert result["violations"][0].keys() >= {"check", "field", "reason", "fix"}


def test_what_would_be_stored_is_exit_code_0() -> None:
    assert run("-f", "-", stdin=POD).exit_code == 0


def test_what_would_be_denied_is_exit_code_1_with_the_reason() -> None:
    outcome = run("-f", "-", stdin=HOST_NETWORK)
    assert outcome.exit_code == 1
    for words in ("denied", "host-network", "spec.hostNetwork", "author: remove hostNetwork: true"):
        assert words in outcome.stdout


def test_the_last_lines_name_the_command_that_explains_each_denial() -> None:
    outcome = run("-f", "-", stdin=HOST_NETWORK)
    assert outcome.stdout.splitlines()[-1] == "details: mendix-mesh explain host-network"
    assert "explain" not in run("-f", "-", stdin=POD).stdout


def test_yaml_says_the_same_as_json() -> None:
    as_yaml = yaml.safe_load(run("-f", "-", "-o", "yaml", stdin=HOST_NETWORK).stdout)
    assert as_yaml == json.loads(run("-f", "-", "-o", "json", stdin=HOST_NETWORK).stdout)


def test_namespaces_in_the_input_give_mesh_and_mode_wherever_they_stand() -> None:
    watched = ENROLLED.replace("linkerd}", "linkerd, mendix-mesh.io/mode: warn}")
    (result,) = results(stdin=f"{HOST_NETWORK}---\n{watched}")
    assert (result["mesh"], result["mode"], result["verdict"]) == ("linkerd", "warn", "warned")


SKIPPED = {
    "linkerd label": (
        "linkerd", {"config.linkerd.io/admission-webhooks": "disabled"}, {},
        "the namespace has the label config.linkerd.io/admission-webhooks=disabled",
    ),
    "linkerd annotation": (
        "linkerd", {}, {"linkerd.io/inject": "true"},
        "the namespace's annotation linkerd.io/inject has an invalid value, true",
    ),
    "istio disabled": (
        "istio", {"istio-injection": "disabled"}, {},
        "the namespace has the label istio-injection=disabled",
    ),
    "istio misspelled": (
        "istio", {"istio-injection": "Enabled", "istio.io/rev": "default"}, {},
        "the namespace has the label istio-injection=Enabled",
    ),
}  # fmt: skip
DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop, namespace: mendix}
spec: {template: {spec: {containers: [{name: app, image: app}]}}}
"""


def namespace(mesh: str, labels: dict[str, str], annotations: dict[str, str] | None = None) -> str:
    """A Namespace as a document of YAML, and the line after it."""
    meta = {"name": "mendix", "labels": {"mendix-mesh.io/mesh": mesh, **labels}}
    return yaml.safe_dump(
        {"kind": "Namespace", "metadata": {**meta, "annotations": annotations or {}}}
    ) + "---\n"  # fmt: skip


def missing(result: dict[str, Any]) -> dict[str, Any]:
    (found,) = (v for v in result["violations"] if v["check"] == "proxy-missing")
    return dict(found)


@pytest.mark.parametrize("case", SKIPPED)
def test_a_namespace_that_keeps_the_injector_away_denies_its_pods(case: str) -> None:
    mesh, labels, annotations, why = SKIPPED[case]
    (pod, deployment) = results(
        stdin=namespace(mesh, labels, annotations) + POD + "---\n" + DEPLOYMENT
    )
    for result in (pod, deployment):
        found = missing(result)
        assert found["reason"] == f"would not get the mesh's proxy: {why}"
        assert (found["level"], found["field"]) == ("deny", "metadata.namespace")
        assert "namespace's owner: remove" in found["fix"]
    # The Deployment is stored. Its pods are denied.
    assert (pod["verdict"], deployment["verdict"]) == ("denied", "warned")
    assert run("-f", "-", stdin=namespace(mesh, labels, annotations) + DEPLOYMENT).exit_code == 1


def test_a_revision_that_the_settings_do_not_name_is_a_warning(tmp_path: Path) -> None:
    """Manifests do not show whether it is installed."""
    text = namespace("istio", {"istio.io/rev": "prod"}) + POD
    (result,) = results(stdin=text)
    found = missing(result)
    assert (result["verdict"], found["level"]) == ("admitted", "warning")
    assert "the namespace has the label istio.io/rev=prod" in found["reason"]
    assert "settings.istio.revision is default" in found["reason"]
    settings = tmp_path / "settings.yaml"
    settings.write_text("istio: {revision: prod}")
    (result,) = results("--settings", str(settings), stdin=text)
    assert "proxy-missing" not in [v["check"] for v in result["violations"]]


def test_an_operator_owned_template_is_judged_as_its_pods_are_opted_in() -> None:
    """The mutating webhook does not change it, and opts in each of its pods."""
    owner = "ownerReferences: [{apiVersion: v1, kind: X, name: x, controller: true}]"
    owned = DEPLOYMENT.replace("name: shop,", f"name: shop, {owner},")
    (result,) = results(stdin=namespace("istio", {}) + owned)
    assert (result["verdict"], result["patch"]) == ("admitted", [])


@pytest.mark.parametrize("spec", ["hostNetwork: true, ", ""])
def test_one_cause_for_a_missing_proxy_is_named_once(spec: str) -> None:
    pod = POD.replace("spec: {", f"spec: {{{spec}")
    if not spec:
        pod = pod.replace("name: shop,", 'name: shop, labels: {sidecar.istio.io/inject: "false"},')
    (result,) = results(stdin=namespace("istio", {"istio-injection": "disabled"}) + pod)
    assert result["verdict"] == "denied"
    assert "proxy-missing" not in [v["check"] for v in result["violations"]]


def test_an_exemption_covers_what_the_namespace_does(tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(
        "exemptions: [{checks: [proxy-missing], namespaces: [mendix], reason: a migration}]"
    )
    text = namespace("istio", {"istio-injection": "disabled"}) + POD
    (result,) = results("--settings", str(settings), stdin=text)
    assert result["verdict"] == "exempt"


def test_stored_pods_are_judged_by_evidence_whatever_the_namespace_says() -> None:
    app = mendix_manifests.app_pod("shop", "mendix", annotations={"linkerd.io/inject": "enabled"})
    stored = json.dumps(inject(app, None, InjectorConfig()).pod)
    label = {"config.linkerd.io/admission-webhooks": "disabled"}
    (result,) = results("--final", stdin=namespace("linkerd", label) + stored)
    assert result["verdict"] == "admitted"


BAD = {
    "syntax": ("kind: [\n", "-:9:1: not YAML"),
    "unclosed quote": ('kind: "Pod\n', "not YAML"),
    "twice": ("kind: Pod\nkind: Pod\n", "not YAML: duplicate key `kind`"),
    "deep": ("[" * 400 + "\n", "nested more than 300 levels deep"),
    "template": ("{{ if .Values.x }}\n", "review the output of helm template"),
    "no object": ("just words\n", "the field kind is missing"),
    "bad pod": ("kind: Pod\nspec: {containers: x}\n", "not a valid Pod"),
    "empty pod": ("kind: Pod\n", "`spec` is missing or empty"),
    "bad namespace": ("kind: Namespace\nmetadata: [a]\n", "not a valid Namespace"),
    "bad review": ("kind: AdmissionReview\n", "not a valid AdmissionReview"),
    "bad list": ("kind: List\nitems: 5\n", "the field items is not a list"),
    "bad item": ("kind: List\nitems: [5]\n", "-#1[0] (line 8): not a Kubernetes object"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_document_does_not_stop_the_others(case: str) -> None:
    text, words = BAD[case]
    first, last = POD.replace("shop", "first"), HOST_NETWORK.replace("shop", "last")
    outcome = run("-f", "-", "-o", "json", stdin=f"# preface\n---\n{first}---\n{text}---\n{last}")
    reviewed = json.loads(outcome.stdout)
    assert [(one["name"], one["verdict"]) for one in reviewed["results"]] == [
        ("first", "admitted"), ("last", "denied")
    ]  # fmt: skip
    assert reviewed["summary"] == {"admitted": 1, "denied": 1, "unusable": 1}
    assert words in outcome.stderr
    assert outcome.stderr.count("\n") == 1
    assert outcome.exit_code == 2, "2 wins over 1"


def test_documents_after_a_bad_one_are_numbered_and_on_their_own_lines() -> None:
    outcome = run("-f", "-", stdin=f"{POD}---\na: [\n---\nkind: Pod\nspec: {{containers: x}}\n")
    first, second = outcome.stderr.splitlines()
    assert first.startswith("Error: -:7:")
    assert second.startswith("Error: -#2 (line 8): not a valid Pod")


def test_a_bad_item_of_a_list_does_not_stop_the_others() -> None:
    pod = yaml.safe_load(POD)
    items = [pod, {"kind": "pod"}, {"kind": "Pod"}, 5, pod]
    outcome = run("-f", "-", "-o", "json", stdin=json.dumps({"kind": "List", "items": items}))
    assert [one["source"] for one in json.loads(outcome.stdout)["results"]] == [
        "-#0[0]", "-#0[4]"
    ]  # fmt: skip
    assert [line.split()[1] for line in outcome.stderr.splitlines()] == [
        "-#0[1]", "-#0[3]", "-#0[2]"
    ]  # fmt: skip
    assert outcome.exit_code == 2


def test_a_bad_file_or_folder_entry_does_not_stop_the_others(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.yaml").symlink_to("nowhere")
    (folder / "b.json").write_text("{")
    (folder / "c.yaml").write_bytes(b"\xff\xfe\xff")
    (folder / "d.yaml").write_text(POD)
    outcome = run("-f", str(tmp_path / "none"), "-f", "", "-f", str(folder), "-o", "json")
    assert [one["source"] for one in json.loads(outcome.stdout)["results"]] == [
        f"{folder}/d.yaml#0"
    ]  # fmt: skip
    for words in ("none: No such file", "-f is empty", "a.yaml: No such",
                  "b.json:1: not JSON", "c.yaml:1: not YAML"):  # fmt: skip
        assert words in outcome.stderr
    assert outcome.stderr.count("\n") == 5
    assert outcome.exit_code == 2


@pytest.mark.parametrize(
    "text", [f"%YAML 1.1\n---\n{POD}", f"\ufeff# a\n\n---\n{POD}", f"---\n{POD}...\n",
             f"---\r\n{POD}---\r\n", f"--- # a comment\n{POD}"]
)  # fmt: skip
def test_what_stands_around_a_document_is_no_document(text: str) -> None:
    (result,) = results(stdin=text)
    assert (result["source"], result["verdict"]) == ("-#0", "admitted")


def test_dashes_within_a_text_separate_nothing() -> None:
    text = POD.replace("name: shop", "name: shop, annotations: {a: '----'}")
    text = text.replace("spec:", "x: |\n  ---\n  a\nspec:")
    assert [one["verdict"] for one in results(stdin=text)] == ["admitted"]


def test_what_lives_in_a_namespace_that_is_not_enrolled_is_ignored() -> None:
    plain = "kind: Namespace\nmetadata: {name: mendix}\n---\n"
    (result,) = results(stdin=plain + HOST_NETWORK)
    assert (result["verdict"], result["patch"], result["violations"]) == ("ignored", [], [])


def test_a_namespace_with_a_misspelled_mesh_denies_everything() -> None:
    (result,) = results(stdin=ENROLLED.replace("linkerd}", "linkrd}") + "---\n" + POD)
    assert result["verdict"] == "denied"
    assert result["violations"][0]["check"] == "unknown-mesh"


def test_an_invalid_mode_counts_as_enforce() -> None:
    odd = ENROLLED.replace("linkerd}", "linkerd, mendix-mesh.io/mode: Warn}")
    (result,) = results(stdin=odd + "---\n" + HOST_NETWORK)
    assert (result["mode"], result["verdict"]) == ("enforce", "denied")


def test_options_beat_namespaces() -> None:
    (result,) = results("--mode", "audit", stdin=ENROLLED + "---\n" + HOST_NETWORK)
    assert (result["mode"], result["verdict"]) == ("audit", "audited")


def test_the_namespace_option_applies_to_objects_without_a_namespace() -> None:
    unplaced = POD.replace(", namespace: mendix", "")
    assert [r["namespace"] for r in results("-n", "here", stdin=unplaced)] == ["here"]
    assert [r["namespace"] for r in results("-n", "here", stdin=POD)] == ["mendix"]


def test_several_documents_and_lists_are_taken_apart_and_say_where_they_stood(
    tmp_path: Path,
) -> None:
    pod = yaml.safe_load(POD)
    several = {"apiVersion": "v1", "kind": "List", "items": [pod, pod]}
    file = tmp_path / "all.yaml"
    file.write_text(POD + "---\n---\n" + yaml.safe_dump(several))
    outcome = json.loads(run("-f", str(file), "-o", "json").stdout)
    assert [result["source"] for result in outcome["results"]] == [
        f"{file}#0",
        f"{file}#2[0]",
        f"{file}#2[1]",
    ]


def test_folders_are_searched_whole(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "pod.yml").write_text(POD)
    (tmp_path / "pod.json").write_text(json.dumps(yaml.safe_load(POD)))
    (tmp_path / "notes.txt").write_text("not: [yaml")
    assert json.loads(run("-f", str(tmp_path), "-o", "json").stdout)["summary"]["admitted"] == 2


def test_kinds_that_are_not_reviewed_are_counted() -> None:
    service = "kind: Service\nmetadata: {name: shop}\n---\n"
    outcome = run("-f", "-", stdin=service * 2 + POD)
    assert "not reviewed: 2 Service" in outcome.stdout
    assert outcome.exit_code == 0


def test_a_stored_pod_is_judged_by_evidence() -> None:
    app = mendix_manifests.app_pod("shop", "mendix", annotations={"linkerd.io/inject": "enabled"})
    (bare,) = results("--final", stdin=json.dumps(app))
    assert "proxy-missing" in [violation["check"] for violation in bare["violations"]]
    (meshed,) = results("--final", stdin=json.dumps(inject(app, None, InjectorConfig()).pod))
    assert (meshed["verdict"], meshed["patch"]) == ("admitted", [])


def test_an_admission_review_is_judged_as_the_validating_webhook_would() -> None:
    request = {
        "uid": "u",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "operation": "CREATE",
        "namespace": "mendix",
        "object": yaml.safe_load(POD),
    }
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    (result,) = results(stdin=json.dumps(review))
    assert "proxy-missing" in [violation["check"] for violation in result["violations"]]
    (deleted,) = results(
        stdin=json.dumps({**review, "request": {**request, "operation": "DELETE", "object": None}})
    )
    assert deleted["verdict"] == "ignored"


def test_settings_count(tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(
        "exemptions: [{checks: [host-network], namespaces: [mendix], reason: node exporter}]"
    )
    (result,) = results("--settings", str(settings), stdin=HOST_NETWORK)
    assert result["verdict"] == "exempt"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (POD.replace("containers", "contaniers"),
         "not a valid Pod: `spec.containers` is missing or empty: the API server would reject it; "
         "is `contaniers` a misspelling of it?"),
        ("kind: Pod\n", "not a valid Pod: `spec` is missing or empty"),
        ("kind: Pod\nspec: {containers: []}\n", "`spec.containers` is missing or empty"),
        ("kind: Job\nspec: {template: {spec: {containers: null}}}\n",
         "not a valid Job: `spec.template.spec.containers` is missing or empty"),
        ("kind: CronJob\nspec: {jobTemplate: {spec: {templat: {}}}}\n",
         "not a valid CronJob: `spec.jobTemplate.spec.template` is missing or empty: "
         "the API server would reject it; is `templat` a misspelling of it?"),
        ("kind: List\nitems: [{kind: Deployment, spec: {replicas: 1}}]\n",
         "-#1[0] (line 6): not a valid Deployment: `spec.template` is missing or empty"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("final", [(), ("--final",)])
def test_a_pod_without_containers_is_unusable_for_nothing_in_it_could_be_judged(
    text: str, words: str, final: tuple[str, ...]
) -> None:
    outcome = run("-f", "-", *final, stdin=f"{POD}---\n{text}")
    assert outcome.exit_code == 2
    assert outcome.stderr.startswith("Error: -#1")
    assert words in outcome.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "kind: Pod\nspec: {containers: [{name: linkerd-proxy, env: [null]}]}\n",
            "-#0 (line 1): not a valid Pod: Expected `object`, got `null` - at `$[0]`",
        ),
        ("kind: pod\n", "-#0 (line 1): not a valid pod: write the kind as Pod"),
        ("kind: Namespace\nmetadata: {name: a, labels: {b: 5}}\n", "at `$.metadata.labels[...]`"),
        (POD.replace("name: shop", "name: 7"), "at `$.metadata.name`"),
        ("- kind: Pod\n", "the field kind is missing"),
        ("kind: [Pod]\n", "the field kind is missing"),
        ("kind: Pod\nmetadata: &a {labels: *a}\n", "not "),
        ("\x00", "-:1: not YAML: control characters are not allowed"),
        ('{"kind": "Pod", "kind": "Job"}', "-:1:17: not YAML: duplicate key `kind`"),
        ("kind: Pod\nmetadata:\n\tname: a\n", "-:3:1: not YAML"),
        ("[" * 200_000, "-:1: nested more than 300 levels deep"),
        ("- " * 200_000, "-:1: nested more than 300 levels deep"),
    ],
)
def test_what_no_manifest_has_is_reported_in_one_line(text: str, words: str) -> None:
    outcome = run("-f", "-", stdin=text)
    assert outcome.exit_code == 2, outcome.output
    assert words in outcome.stderr
    assert outcome.stderr.count("\n") == 1


def test_aliases_that_unfold_without_end_are_rejected() -> None:
    levels = "\n".join(f"a{i}: &a{i} [{f'*a{i - 1},' * 10}]" for i in range(1, 10))
    outcome = run("-f", "-", stdin=f"a0: &a0 [x]\n{levels}\n{POD}")
    assert outcome.exit_code == 2
    assert "its YAML aliases expand to more than 10,000,000 nodes" in outcome.stderr


def test_aliases_and_merge_keys_are_read() -> None:
    text = """\
x: &x {kind: Job, metadata: {name: shop}}
y: &y
  <<: *x
  kind: Pod
spec: &spec {containers: [{name: app, image: app}]}
"""
    (result,) = results(stdin=text + "<<: *y\nagain: *spec\n")
    assert (result["kind"], result["name"]) == ("Pod", "shop")


def test_dates_and_equals_signs_are_text_as_they_are_to_kubernetes() -> None:
    keys = "labels: {a: 2026-01-31, b: 2026-02-30}, annotations: {c: =}"
    dated = POD.replace("name: shop", f"name: shop, {keys}")
    (result,) = results(stdin=dated)
    assert result["verdict"] == "admitted"


def test_a_kind_that_may_be_misspelled_gets_a_suggestion() -> None:
    outcome = run("-f", "-", stdin="kind: Deploymnet\n---\nkind: Service\n")
    assert "not reviewed: 1 Deploymnet (did you mean Deployment?), 1 Service\n" in outcome.stdout


@pytest.mark.parametrize(
    ("version", "kind"),
    [("batch.volcano.sh/v1alpha1", "Job"), ("config.openshift.io/v1", "Ingress"),
     ("apps.kruise.io/v1beta1", "StatefulSet"), ("v1", "StatefulSet"), ("a.io/v1", "Namespace")],
)  # fmt: skip
def test_a_kind_of_another_api_group_is_not_reviewed(version: str, kind: str) -> None:
    outcome = run("-f", "-", stdin=f"apiVersion: {version}\nkind: {kind}\n---\n{HOST_NETWORK}")
    assert f"not reviewed: 1 {kind} ({version})\n" in outcome.stdout
    assert (outcome.exit_code, outcome.stderr) == (1, "")


@pytest.mark.parametrize("version", ["apps/v1", "apps/v1beta2", "extensions/v1beta1", '""'])
def test_each_version_of_the_kind_s_own_group_is_reviewed(version: str) -> None:
    (result,) = results(stdin=DEPLOYMENT.replace("apps/v1", version))
    assert (result["kind"], result["verdict"]) == ("Deployment", "admitted")


JSON_POD = json.dumps(yaml.safe_load(POD))


@pytest.mark.parametrize("name", ["pods.json", "pods"])
def test_json_objects_one_after_the_other_are_documents(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(f"\n{JSON_POD}\n\n{JSON_POD}{JSON_POD}\n" + '{"a": 1,\n"a": 2}')
    outcome = run("-f", str(tmp_path / name), "-o", "json")
    found = [(one["source"], one["line"]) for one in json.loads(outcome.stdout)["results"]]
    assert found == [(f"{tmp_path / name}#{n}", line) for n, line in enumerate((2, 4, 4))]
    assert outcome.stderr == f"Error: {tmp_path / name}:5: not JSON: duplicate key `a`\n"


@pytest.mark.parametrize("name", ["", "a b", "A", "-a", "a" * 64])
def test_an_impossible_namespace_is_reported(name: str) -> None:
    outcome = run("-f", "-", "-n", name, stdin=POD)
    assert outcome.exit_code == 2
    assert f"invalid namespace {name!r}" in outcome.stderr


def test_what_has_lapsed_in_the_settings_is_reported_beside_the_output(tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(
        "exemptions: [{checks: [host-network], namespaces: [mendix], reason: x, until: 2020-02-29}]"
    )
    outcome = run("-f", "-", "-o", "json", "--settings", str(settings), stdin=HOST_NETWORK)
    assert outcome.stderr.startswith(
        "Warning: settings.exemptions[0] expired on 2020-02-29 and has"
    )
    assert json.loads(outcome.stdout)["summary"]["denied"] == 1


@pytest.mark.parametrize(
    ("name", "why"),
    [("loop.yaml", "Too many levels of symbolic links"), ("dangling.yaml", "No such file"),
     ("x" * 300, "File name too long"), ("file.yaml/x", "Not a directory")],
)  # fmt: skip
def test_a_path_that_leads_nowhere_is_named(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    (tmp_path / "dangling.yaml").symlink_to("nowhere")
    (tmp_path / "file.yaml").write_text(POD)
    outcome = run("-f", str(tmp_path / name))
    assert outcome.exit_code == 2
    assert f"can't read {tmp_path / name}: {why}" in outcome.stderr


def test_a_folder_that_links_to_itself_is_searched_once(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(POD)
    (tmp_path / "again").symlink_to(".")
    assert json.loads(run("-f", str(tmp_path), "-o", "json").stdout)["summary"]["admitted"] == 1


def test_a_folder_whose_reading_is_forbidden_is_not_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "good.yaml").write_text(POD)
    (tmp_path / "secret").mkdir()
    scan = os.scandir

    def denying(path: str) -> Any:
        if (
            Path(path).name == "secret"
        ):  # Root may read everything, so no file mode would prevent it.
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", denying)
    outcome = run("-f", str(tmp_path))
    assert outcome.exit_code == 2
    assert f"can't read {tmp_path / 'secret'}: Permission denied" in outcome.stderr


@pytest.mark.parametrize("text", [POD, POD.replace("Pod", "shop"), "shop: 1\nshop: 2\n"])
def test_no_manifest_writes_lines_or_colours_of_its_own(text: str) -> None:
    outcome = run("-f", "-", stdin=text.replace("shop", r'"shop\n\e[32madmitted"'))
    assert "\x1b" not in outcome.output
    assert r"shop\n\x1b[32madmitted" in outcome.output


def test_a_file_name_that_is_no_text_is_shown_all_the_same(tmp_path: Path) -> None:
    file = tmp_path / os.fsdecode(b"odd\xff.yaml")
    file.write_text(POD)
    for form in ("table", "json", "yaml"):
        outcome = run("-f", str(file), "-o", form)
        assert outcome.exit_code == 0, outcome.exc_info
        assert "odd\\" in outcome.stdout


@pytest.mark.parametrize("text", ["", "---\n", "# nothing\n"])
def test_no_object_at_all_is_not_a_pass(text: str) -> None:
    outcome = run("-f", "-", stdin=text)
    assert outcome.exit_code == 2
    assert "nothing to review: no Kubernetes object in -" in outcome.stderr


@pytest.mark.parametrize("mode", ["warn", "audit"])
def test_what_enforce_would_deny_is_exit_code_1_in_any_mode(mode: str) -> None:
    assert run("-f", "-", "--mode", mode, stdin=HOST_NETWORK).exit_code == 1


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    outcome = run("-f", str(tmp_path))
    assert outcome.exit_code == 2
    assert str(tmp_path) in outcome.stderr


def test_no_colours_if_it_is_not_a_terminal() -> None:
    assert "\x1b" not in run("-f", "-", stdin=HOST_NETWORK).stdout


def test_help_shows_an_example() -> None:
    assert "mendix-mesh review -f app.yaml" in run("--help").stdout


def test_an_ingress_shows_what_is_added_to_it() -> None:
    outcome = run(
        "-f",
        "-",
        stdin=json.dumps(mendix_manifests.app_ingress("shop", "mendix", class_name="nginx")),
    )
    assert "annotation nginx.ingress.kubernetes.io/service-upstream: true" in outcome.stdout
    assert "annotation nginx.org/use-cluster-ip: true" in outcome.stdout


def test_an_ingress_with_sticky_sessions_gets_kubectl_s_warning() -> None:
    sticky = {"nginx.ingress.kubernetes.io/affinity": "cookie"}
    given = json.dumps(mendix_manifests.app_ingress("shop", "mendix", annotations=sticky))
    outcome = run("-f", "-", stdin=given)
    assert outcome.exit_code == 0
    assert (
        "! mendix-mesh (linkerd) Ingress shop: annotation affinity has no effect" in outcome.stdout
    )
    (result,) = json.loads(run("-f", "-", "-o", "json", stdin=given).stdout)["results"]
    assert "affinity has no effect" in result["warnings"][0]
