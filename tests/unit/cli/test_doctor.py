"""`mendix-mesh doctor`: its output and exit codes."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from tests.unit.cluster.apiserver import HttpRequest, Reply, status, write_kubeconfig
from tests.unit.cluster.hospital import MUTATING, Hospital
from tests.unit.cluster.world import CONFIGURATION, MESH, MODE, unmeshed
from webhook.cli import main
from webhook.cluster.doctor.findings import all_findings

DAY_2 = Path(__file__).parents[3] / "docs" / "day-2.md"


@pytest.fixture
def hospital() -> Hospital:
    made = Hospital()
    made.config_map("mendix-mesh", "mendix-mesh-settings", settings_yaml="{}")
    made.namespace("mendix", "linkerd", "warn")
    made.namespace("others")
    return made


def run(hospital: Hospital, folder: Path, *arguments: str) -> Result:
    with hospital.serving(folder) as server:
        options = [f"--kubeconfig={server.kubeconfig}", *arguments]
        return CliRunner().invoke(main, ["doctor", *options])


def test_a_healthy_cluster_takes_one_line_for_each_namespace(
    hospital: Hospital, tmp_path: Path
) -> None:
    done = run(hospital, tmp_path)
    assert done.stdout == (
        "✔ mendix  new pods join the mesh  (linkerd, warn)\n\nno errors, no warnings\n"
    )
    assert (done.exit_code, done.stderr) == (0, "")


def test_a_finding_has_its_evidence_its_meaning_and_a_fix(
    hospital: Hospital, tmp_path: Path
) -> None:
    hospital.probed = Reply(body=unmeshed())
    hospital.forbidden.append("/apis/discovery.k8s.io")
    done = run(hospital, tmp_path)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("✘ mendix  new pods do not join the mesh")
    assert lines[2] == "✘ probe-unmeshed  mendix"
    assert lines[3].startswith(
        "    the dry-run pod was admitted outside the mesh: spec.initContainers "
    )
    assert lines[4].startswith("    a pod that is created now would not be in the mesh")
    assert lines[5] == (
        "    fix: read the logs: kubectl -n mendix-mesh logs deployment/mm; kubectl -n linkerd "
        "logs deployment/mm"
    )
    assert lines[7] == "? unready  mendix"
    assert lines[8].startswith("    could not check: User")
    assert lines[-1] == "1 error, no warnings, 1 finding could not be checked"
    assert done.exit_code == 1


def test_a_consequence_is_printed_below_its_cause(hospital: Hospital, tmp_path: Path) -> None:
    hospital.probed = Reply(body=unmeshed())
    del hospital.objects[f"{MUTATING}/00-mendix-mesh"]
    lines = run(hospital, tmp_path).stdout.splitlines()
    assert lines[2] == "✘ webhook-missing  mendix"
    assert lines[5] == (
        "    fix: restore it: helm upgrade mendix-mesh charts/mendix-mesh -n mendix-mesh "
        "--reset-then-reuse-values; if it is lost again, another tool removes or changes it"
    )
    assert lines[6].startswith(
        "    consequence: ✘ probe-unmeshed  the dry-run pod was admitted outside the mesh: "
    )
    assert lines[-1] == "1 error, no warnings, 1 consequence"


def test_what_fix_repairs_is_printed_as_the_command(hospital: Hospital, tmp_path: Path) -> None:
    ill(hospital)
    done = run(hospital, tmp_path)
    assert f"    fix: mendix-mesh doctor --fix -n mendix ({WHAT})\n" in done.stdout


def test_fix_goes_on_until_nothing_is_left_with_one_patch_for_each_object(
    hospital: Hospital, tmp_path: Path
) -> None:
    """Behind a misspelled mesh are findings that only an enrolled namespace has."""
    labels = {MESH: "linkred", MODE: "enforced"}
    annotations = {"linkerd.io/inject": "true"}
    hospital.namespace("crm", labels=labels, annotations=annotations)
    with hospital.serving(tmp_path) as server:
        options = ["doctor", f"--kubeconfig={server.kubeconfig}", "-n", "crm", "--fix", "--yes"]
        done = CliRunner().invoke(main, options)
        patches = [one for one in server.requests if one.method == "PATCH"]
    assert done.exit_code == 0, done.output
    assert done.stdout.endswith("no errors, no warnings\n")
    assert [len(json.loads(one.body)) // 2 for one in patches] == [2, 1]
    meta = hospital.objects["/api/v1/namespaces/crm"]["metadata"]
    assert (meta["labels"][MESH], meta["labels"][MODE]) == ("linkerd", "enforce")
    assert meta["annotations"] == {"linkerd.io/inject": "enabled"}


def test_wait_repeats_until_there_are_no_errors(
    hospital: Hospital, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hospital.endpoints("linkerd", ready=False)
    assert run(hospital, tmp_path, "--wait", "0.01").exit_code == 1
    monkeypatch.setattr(
        "webhook.cli.doctor.time.sleep", lambda _: hospital.endpoints("linkerd", ready=True)
    )
    assert run(hospital, tmp_path, "--wait", "60").exit_code == 0


# Before an install.


class Before(Hospital):
    """A cluster with Linkerd and cert-manager, in which the user may do all but what is named."""

    def __init__(self) -> None:
        super().__init__()
        self.denied: set[str] = set()
        del self.objects[CONFIGURATION], self.objects[f"{MUTATING}/00-mendix-mesh"]
        self.add("/version", {"gitVersion": "v1.31.0"})
        self.add("/apis/cert-manager.io/v1", {"kind": "APIResourceList"})
        for name in ("cert-manager", "cainjector"):
            where = f"/apis/apps/v1/namespaces/cert-manager/deployments/{name}"
            meta = {"labels": {"app.kubernetes.io/name": name}}
            self.add(where, {"metadata": meta, "status": {"readyReplicas": 1}})

    def answer(self, request: HttpRequest) -> Reply:
        if request.method == "POST" and "selfsubjectaccessreviews" in request.target:
            wanted = json.loads(request.body)["spec"]["resourceAttributes"]
            return Reply(201, {"status": {"allowed": wanted["resource"] not in self.denied}})
        return super().answer(request)


def before(world: Before, folder: Path) -> tuple[dict[str, set[str]], int]:
    done = run(world, folder, "--pre", "-o", "json")
    found: dict[str, set[str]] = {}
    for one in json.loads(done.stdout)["checks"]:
        found.setdefault(one["id"], set()).add(one["result"])
    return found, done.exit_code


def test_before_an_install_everything_that_it_needs_is_checked(tmp_path: Path) -> None:
    done = run(Before(), tmp_path, "--pre")
    assert done.stdout.splitlines() == [
        "✔ kubernetes    Kubernetes v1.31.0 is supported",
        "✔ mesh          linkerd is installed (injector)",
        "✔ cert-manager  cert-manager's controller is ready",
        "✔ cert-manager  cert-manager's cainjector is ready",
        "✔ order         00-mendix-mesh is called before the injectors",
        "✔ rights        you are allowed to create what the chart needs, in the cluster and in "
        "namespace mendix-mesh",
    ]
    assert (done.exit_code, done.stderr) == (0, "")


def test_what_would_break_an_install_is_an_error(tmp_path: Path) -> None:
    world = Before()
    world.add("/version", {"gitVersion": "v1.29.9"})
    del world.objects["/apis/cert-manager.io/v1"]
    world.objects[f"{MUTATING}/00-first"] = world.objects.pop(f"{MUTATING}/injector")
    world.objects[f"{MUTATING}/00-first"]["metadata"]["name"] = "00-first"
    world.denied = {"clusterroles"}
    found, code = before(world, tmp_path)
    assert found == {
        "kubernetes": {"error"}, "mesh": {"ok"}, "cert-manager": {"error"}, "order": {"error"},
        "rights": {"error"},
    }  # fmt: skip
    assert code == 1
    world = Before()
    del world.objects[f"{MUTATING}/injector"]
    world.objects["/apis/apps/v1/namespaces/cert-manager/deployments/cainjector"]["status"] = {}
    found, code = before(world, tmp_path)
    assert (found["mesh"], found["cert-manager"], code) == ({"error"}, {"ok", "warning"}, 1)


def test_versions_that_are_too_old_for_the_chart_are_errors(tmp_path: Path) -> None:
    world = Before()
    where = "/apis/apps/v1/namespaces/cert-manager/deployments/cert-manager"
    world.objects[where]["metadata"]["labels"]["app.kubernetes.io/version"] = "v1.14.3"
    labels = {"istio.io/rev": "default"}
    world.configuration("istio", "rev.namespace.sidecar-injector.istio.io", labels=labels)
    values = "global: {tag: 1.20.1, hub: docker.io/istio}"
    world.config_map("mendix-mesh", "istio-sidecar-injector", values=values)
    printed = run(world, tmp_path, "--pre").stdout
    assert "✘ mesh          istio 1.20.1 is installed (istio), which is too old" in printed
    assert "✘ cert-manager  cert-manager's controller has version 1.14, which is too old" in printed
    assert "upgrade cert-manager to 1.19 or later, or give the chart a certificate" in printed


def test_what_must_not_be_read_before_an_install_is_unknown(tmp_path: Path) -> None:
    world = Before()
    world.forbidden = [MUTATING]
    found, code = before(world, tmp_path)
    assert (found["mesh"], found["order"], code) == ({"unknown"}, {"unknown"}, 0)


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_the_same_for_machines(hospital: Hospital, tmp_path: Path, form: str) -> None:
    hospital.probed = Reply(body=unmeshed())
    done = run(hospital, tmp_path, "-o", form, "-n", "mendix", "-n", "others")
    found = json.loads(done.stdout) if form == "json" else yaml.safe_load(done.stdout)
    assert found["namespaces"] == [
        {"name": "mendix", "mesh": "linkerd", "mode": "warn", "meshed": "no"},
        {"name": "others", "mesh": "", "mode": "", "meshed": "no"},
    ]
    assert {one["id"]: one["namespaces"] for one in found["findings"]} == {
        "not-enrolled": ["others"],
        "probe-unmeshed": ["mendix"],
    }
    assert found["unchecked"] == []
    assert done.exit_code == 1


def test_warnings_alone_are_no_failure(hospital: Hospital, tmp_path: Path) -> None:
    meta = hospital.objects["/api/v1/namespaces/mendix"]["metadata"]
    meta["labels"]["linkerd.io/inject"] = "enabled"
    done = run(hospital, tmp_path)
    assert "! label-not-annotation  mendix" in done.stdout
    assert done.exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("-n", "missing"), "namespace missing does not exist"), ((), "no namespace is enrolled")],
)
def test_nothing_to_look_at_is_exit_code_2(
    hospital: Hospital, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    del hospital.objects["/api/v1/namespaces/mendix"]
    done = run(hospital, tmp_path, *arguments)
    assert done.exit_code == 2
    assert said in done.stderr


def test_enrollment_by_labels_alone_is_reported_as_such(hospital: Hospital, tmp_path: Path) -> None:
    del hospital.objects[CONFIGURATION]
    done = run(hospital, tmp_path)
    assert done.stderr == (
        "Warning: enrollment is read only from namespace labels: mendix-mesh has no webhook "
        "configuration in this cluster\n"
    )
    assert "webhook-missing" in done.stdout
    assert done.exit_code == 1


def test_no_connection_is_exit_code_2(tmp_path: Path) -> None:
    kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:1")
    done = CliRunner().invoke(main, ["doctor", f"--kubeconfig={kubeconfig}"])
    assert done.exit_code == 2
    assert "does not answer" in done.stderr


def ill(hospital: Hospital) -> None:
    """Set an annotation to a word that means yes, and that Linkerd does not know."""
    meta = hospital.objects["/api/v1/namespaces/mendix"]["metadata"]
    meta["annotations"] = {"linkerd.io/inject": "true"}


WHAT = "namespace mendix: change annotation linkerd.io/inject=true to enabled"


def test_what_can_be_fixed_is_fixed_and_then_examined_again(
    hospital: Hospital, tmp_path: Path
) -> None:
    ill(hospital)
    done = run(hospital, tmp_path, "--fix", "--yes")
    assert done.stderr == f"inject-annotation-invalid: {WHAT}\nfixed: {WHAT}\n"
    assert done.stdout.endswith("no errors, no warnings\n")
    assert done.exit_code == 0


def test_a_dry_run_of_the_fix_changes_nothing(hospital: Hospital, tmp_path: Path) -> None:
    ill(hospital)
    done = run(hospital, tmp_path, "--fix", "--dry-run", "-o", "json")
    assert f"would be fixed: {WHAT}" in done.stderr
    found = json.loads(done.stdout)
    assert found["fixed"] == []
    assert found["findings"][0]["id"] == "inject-annotation-invalid"
    assert done.exit_code == 1


@pytest.mark.parametrize(("answer", "left"), [("y\n", 0), ("n\n", 1)])
def test_a_fix_needs_confirmation(
    hospital: Hospital, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, left: int
) -> None:
    monkeypatch.setattr("webhook.cli._cluster.interactive", lambda: True)
    ill(hospital)
    with hospital.serving(tmp_path) as server:
        options = ["doctor", f"--kubeconfig={server.kubeconfig}", "--fix"]
        done = CliRunner().invoke(main, options, input=answer)
    assert "Apply 1 change?" in done.stderr
    assert done.exit_code == left


def test_what_cannot_be_fixed_stops_nothing_else(hospital: Hospital, tmp_path: Path) -> None:
    ill(hospital)
    hospital.namespace("crm", "linkerd", annotations={"linkerd.io/inject": "yes"})
    answer = hospital.answer

    def failing(request: HttpRequest) -> Reply:
        if request.method == "PATCH" and "crm" in request.target:
            return status(403, "Forbidden", "crm is not yours")
        return answer(request)

    hospital.answer = failing  # type: ignore[method-assign]
    done = run(hospital, tmp_path, "--fix", "--yes", "-o", "json")
    assert (
        "not fixed: namespace crm: change annotation linkerd.io/inject=yes to enabled: crm is"
        in (done.stderr)
    )
    assert json.loads(done.stdout)["fixed"] == [WHAT]
    assert done.exit_code == 1


def test_nothing_to_fix_is_reported(hospital: Hospital, tmp_path: Path) -> None:
    done = run(hospital, tmp_path, "--fix")
    assert (done.exit_code, done.stderr) == (0, "--fix has nothing to change\n")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--yes",), "belong to --fix"),
        (("--dry-run",), "belong to --fix"),
        (("--fix",), "give --yes or --dry-run"),
        (("--pre", "-n", "mendix"), "--pre covers the whole cluster"),
    ],
)
def test_options_that_do_not_go_together_are_rejected(
    hospital: Hospital, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    ill(hospital)
    done = run(hospital, tmp_path, *options)
    assert done.exit_code == 2
    assert said in done.stderr


def test_the_guide_lists_what_can_be_fixed() -> None:
    section = DAY_2.read_text().partition("\n## doctor\n")[2]
    listed = [line.split("`")[1] for line in section.splitlines() if line.startswith("- `")]
    assert listed == [name for name, entry in sorted(all_findings().items()) if entry.repair]
