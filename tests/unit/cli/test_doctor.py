"""`mendix-mesh doctor`: what it prints and ends with."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from tests.unit.cluster.apiserver import Reply, write_kubeconfig
from tests.unit.cluster.hospital import Hospital
from tests.unit.cluster.world import CONFIGURATION, unmeshed
from webhook.cli import main


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


def test_a_healthy_cluster_is_told_in_a_line_a_namespace(
    hospital: Hospital, tmp_path: Path
) -> None:
    done = run(hospital, tmp_path)
    assert done.stdout == (
        "✔ mendix  a pod that is created now is meshed  (linkerd, warn)\n\nno errors, no warnings\n"
    )
    assert (done.exit_code, done.stderr) == (0, "")


def test_a_finding_has_its_evidence_its_meaning_and_a_mend(
    hospital: Hospital, tmp_path: Path
) -> None:
    hospital.probed = Reply(body=unmeshed())
    hospital.forbidden.append("/apis/discovery.k8s.io")
    done = run(hospital, tmp_path)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("✘ mendix  a pod that is created now is not meshed")
    assert lines[2] == "✘ probe-unmeshed  mendix"
    assert lines[3].startswith("    it was let in without the mesh: spec.initContainers ")
    assert lines[4].startswith("    a pod that is created now would not be in the mesh")
    assert lines[5].startswith("    mend: see the other findings")
    assert lines[7] == "? unready  mendix"
    assert lines[8].startswith("    could not look: User")
    assert lines[-1] == "1 error, no warnings, 1 could not be looked for"
    assert done.exit_code == 1


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
    assert found["unseen"] == []
    assert done.exit_code == 1


def test_warnings_alone_are_no_failure(hospital: Hospital, tmp_path: Path) -> None:
    meta = hospital.objects["/api/v1/namespaces/mendix"]["metadata"]
    meta["labels"]["linkerd.io/inject"] = "enabled"
    done = run(hospital, tmp_path)
    assert "! label-not-annotation  mendix" in done.stdout
    assert done.exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("-n", "missing"), "there is no namespace missing"), ((), "no namespace is enrolled")],
)
def test_nothing_to_look_at_is_exit_code_2(
    hospital: Hospital, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    del hospital.objects["/api/v1/namespaces/mendix"]
    done = run(hospital, tmp_path, *arguments)
    assert done.exit_code == 2
    assert said in done.stderr


def test_enrolment_that_is_told_by_labels_alone_is_told_as_such(
    hospital: Hospital, tmp_path: Path
) -> None:
    del hospital.objects[CONFIGURATION]
    done = run(hospital, tmp_path)
    assert done.stderr == (
        "Warning: enrolment is told by labels alone: mendix-mesh is not installed\n"
    )
    assert "webhook-missing" in done.stdout
    assert done.exit_code == 1


def test_no_connection_is_exit_code_2(tmp_path: Path) -> None:
    kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:1")
    done = CliRunner().invoke(main, ["doctor", f"--kubeconfig={kubeconfig}"])
    assert done.exit_code == 2
    assert "does not answer" in done.stderr
