"""`mendix-mesh review`: what the webhook would do, said offline."""

import json
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
    assert {key: result[key] for key in list(result)[:8]} == {
        "source": "-#0",
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
                "value": {"linkerd.io/inject": "enabled"},
            }
        ],
    }
    assert result["violations"][0].keys() >= {"check", "field", "reason", "fix"}


def test_what_would_be_stored_is_exit_code_0() -> None:
    assert run("-f", "-", stdin=POD).exit_code == 0


def test_what_would_be_refused_is_exit_code_1_and_says_why() -> None:
    outcome = run("-f", "-", stdin=HOST_NETWORK)
    assert outcome.exit_code == 1
    for words in ("denied", "host-network", "spec.hostNetwork", "remove hostNetwork: true"):
        assert words in outcome.stdout


def test_yaml_says_the_same_as_json() -> None:
    as_yaml = yaml.safe_load(run("-f", "-", "-o", "yaml", stdin=HOST_NETWORK).stdout)
    assert as_yaml == json.loads(run("-f", "-", "-o", "json", stdin=HOST_NETWORK).stdout)


def test_namespaces_in_the_input_give_mesh_and_mode_wherever_they_stand() -> None:
    watched = ENROLLED.replace("linkerd}", "linkerd, mendix-mesh.io/mode: warn}")
    (result,) = results(stdin=f"{HOST_NETWORK}---\n{watched}")
    assert (result["mesh"], result["mode"], result["verdict"]) == ("linkerd", "warn", "warned")


def test_what_lives_in_a_namespace_that_is_not_enrolled_is_ignored() -> None:
    plain = "kind: Namespace\nmetadata: {name: mendix}\n---\n"
    (result,) = results(stdin=plain + HOST_NETWORK)
    assert (result["verdict"], result["patch"], result["violations"]) == ("ignored", [], [])


def test_a_namespace_with_a_misspelt_mesh_refuses_everything() -> None:
    (result,) = results(stdin=ENROLLED.replace("linkerd}", "linkrd}") + "---\n" + POD)
    assert result["verdict"] == "denied"
    assert result["violations"][0]["check"] == "unknown-mesh"


def test_an_odd_mode_counts_as_enforce() -> None:
    odd = ENROLLED.replace("linkerd}", "linkerd, mendix-mesh.io/mode: Warn}")
    (result,) = results(stdin=odd + "---\n" + HOST_NETWORK)
    assert (result["mode"], result["verdict"]) == ("enforce", "denied")


def test_options_beat_namespaces() -> None:
    (result,) = results("--mode", "audit", stdin=ENROLLED + "---\n" + HOST_NETWORK)
    assert (result["mode"], result["verdict"]) == ("audit", "audited")


def test_the_namespace_option_is_for_objects_that_name_none() -> None:
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
        ("a: [\n", "-:2:1: not YAML"),
        (POD + "---\nkind: Pod\nspec: {containers: x}\n", "-#1 (line 6): not a valid Pod"),
        (POD.replace("name: shop", "name: 7"), "at `$.metadata.name`"),
        ("just words\n", "it has no kind"),
        ("- kind: Pod\n", "it has no kind"),
        ("kind: [Pod]\n", "it has no kind"),
        ("kind: Pod\nmetadata: &a {labels: *a}\n", "not "),
        ("\x00", "not YAML"),
    ],
)
def test_unusable_input_is_exit_code_2_and_one_line_that_says_where(text: str, words: str) -> None:
    outcome = run("-f", "-", stdin=text)
    assert outcome.exit_code == 2, outcome.output
    assert words in outcome.stderr
    assert outcome.stderr.count("\n") == 1
    assert "Traceback" not in outcome.output


def test_a_missing_file_is_named() -> None:
    outcome = run("-f", "no-such.yaml")
    assert outcome.exit_code == 2
    assert "can't read no-such.yaml: No such file or directory" in outcome.stderr


@pytest.mark.parametrize("text", ["", "---\n", "# nothing\n"])
def test_no_object_at_all_is_not_a_pass(text: str) -> None:
    outcome = run("-f", "-", stdin=text)
    assert outcome.exit_code == 2
    assert "nothing to review: - holds no Kubernetes object" in outcome.stderr


@pytest.mark.parametrize("mode", ["warn", "audit"])
def test_what_enforce_would_refuse_is_exit_code_1_in_any_mode(mode: str) -> None:
    assert run("-f", "-", "--mode", mode, stdin=HOST_NETWORK).exit_code == 1


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    outcome = run("-f", str(tmp_path))
    assert outcome.exit_code == 2
    assert str(tmp_path) in outcome.stderr


def test_no_colours_where_it_is_not_a_terminal() -> None:
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
