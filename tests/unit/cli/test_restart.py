"""`mendix-mesh restart`: its questions, output and exit codes."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from tests.unit.cluster.apiserver import status
from tests.unit.cluster.rolling import RollingWorld
from tests.unit.cluster.world import meshed, owned, unmeshed
from webhook.cli import main
from webhook.cluster.restart import BlockedError, Restarter, RestartError

TABLE = """\
STATE    NAMESPACE  KIND        NAME                   ROLE      HOW      PODS  REASON
planned  mendix     Deployment  mendix-operator        operator  restart  1     outside the mesh
planned  mendix     ReplicaSet  crm                    app       evict    1     outside the mesh
planned  mendix     ReplicaSet  shop                   app       evict    2     outside the mesh
left     mendix     Pod         mendix-backup-restore  app       leave    1     outside the mesh

left  Pod mendix/mendix-backup-restore
    a pod without a controller: you must recreate it yourself; to delete it give --include-bare

4 workloads: 3 planned, 1 left
"""


@pytest.fixture
def world() -> RollingWorld:
    made = RollingWorld()
    made.install()
    made.config_map("mendix-mesh", "mendix-mesh-settings", settings_yaml="{}")
    made.namespace("mendix", "linkerd")
    made.namespace("others")
    made.workload("mendix", "Deployment", "mendix-operator")
    made.workload("mendix", "ReplicaSet", "shop", pods=2)
    made.workload("mendix", "ReplicaSet", "crm")
    made.workload("mendix", "ReplicaSet", "young", pod=meshed())
    made.pod("mendix", "mendix-backup-restore", unmeshed())
    return made


def run(world: RollingWorld, folder: Path, *arguments: str, stdin: str = "") -> Result:
    with world.serving(folder) as server:
        given = ["restart", "--kubeconfig", str(server.kubeconfig), *arguments]
        return CliRunner().invoke(main, given, input=stdin)


def states(outcome: Result) -> dict[str, str]:
    return {one["name"]: one["state"] for one in json.loads(outcome.stdout)["workloads"]}


def test_what_holds_for_several_workloads_is_said_once(world: RollingWorld, tmp_path: Path) -> None:
    for number in range(7):
        world.pod("mendix", f"task-{number}", unmeshed())
    printed = run(world, tmp_path, "-n", "mendix", "--dry-run").stdout
    assert printed.count("a pod without a controller") == 1
    assert "left  Pod mendix/mendix-backup-restore, Pod mendix/task-0, " in printed
    assert "Pod mendix/task-3 and 3 more\n" in printed


def test_a_dry_run_prints_the_plan_and_changes_nothing(world: RollingWorld, tmp_path: Path) -> None:
    outcome = run(world, tmp_path, "-n", "mendix", "--dry-run")
    assert outcome.exit_code == 0, outcome.output
    assert outcome.stdout == TABLE
    assert outcome.stderr == ""
    assert world.done == []


def test_the_guide_shows_what_is_printed() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "day-2.md").read_text()
    assert f"$ mendix-mesh restart -n mendix --dry-run\n{TABLE}" in guide


def test_json_and_yaml_say_the_same(world: RollingWorld, tmp_path: Path) -> None:
    given = ("--enrolled", "--dry-run", "-o")
    data: dict[str, Any] = json.loads(run(world, tmp_path, *given, "json").stdout)
    assert data == yaml.safe_load(run(world, tmp_path, *given, "yaml").stdout)
    assert data["summary"] == {"planned": 3, "left": 1}
    assert (data["dryRun"], data["interrupted"]) == (True, False)
    assert data["workloads"][0] == {
        "state": "planned", "how": "restart", "namespace": "mendix", "kind": "Deployment",
        "name": "mendix-operator", "apiVersion": "apps/v1", "role": "operator",
        "reason": "outside the mesh", "pods": 1, "why": [],
    }  # fmt: skip


def test_all_is_restarted_and_the_next_time_there_is_nothing_to_do(
    world: RollingWorld, tmp_path: Path
) -> None:
    outcome = run(world, tmp_path, "-n", "mendix", "--include-bare", "--yes", "-o", "json")
    assert outcome.exit_code == 0, outcome.output
    # Nobody recreates a bare pod, so it is not in the mesh now.
    assert states(outcome).pop("mendix-backup-restore") == "deleted"
    assert list(states(outcome).values()) == ["done"] * 3 + ["deleted"]
    assert world.done == [
        "restart mendix-operator", "evict crm-0", "evict shop-0", "evict shop-1",
        "evict mendix-backup-restore",
    ]  # fmt: skip
    # There is no bar without a terminal.
    assert outcome.stderr == ""
    again = run(world, tmp_path, "-n", "mendix", "--yes")
    assert (again.exit_code, again.stdout) == (0, "")
    assert "nothing to do" in again.stderr


def test_a_selector_chooses_among_the_pods(world: RollingWorld, tmp_path: Path) -> None:
    outcome = run(world, tmp_path, "-n", "mendix", "-l", "app=crm", "--dry-run", "-o", "json")
    assert states(outcome) == {"crm": "planned"}


def test_labels_that_no_pod_has_are_exit_code_2(world: RollingWorld, tmp_path: Path) -> None:
    outcome = run(world, tmp_path, "-n", "mendix", "-l", "app=typo", "--dry-run")
    assert (outcome.exit_code, outcome.stdout) == (2, "")
    assert outcome.stderr == "Error: no pod in namespace mendix has the labels app=typo\n"


# Names.


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["replicaset/crm", "deployment/mendix-operator"],
         {"mendix-operator": "planned", "crm": "planned"}),
        (["rs/crm", "ReplicaSets/shop"], {"crm": "planned", "shop": "planned"}),
        (["pod/mendix-backup-restore"], {"mendix-backup-restore": "left"}),
        (["replicaset/young"], {}),
        (["redis/cache", "NEO4jCluster/graph"], {"cache": "planned", "graph": "planned"}),
    ],
)  # fmt: skip
def test_names_choose_among_the_workloads(
    world: RollingWorld, tmp_path: Path, names: list[str], expected: dict[str, str]
) -> None:
    for kind, name in (("Redis", "cache"), ("Neo4jCluster", "graph")):
        world.pod("mendix", name, owned(unmeshed(), kind, name, "example.com/v1"))
    given = ("-n", "mendix", "--dry-run", "-o", "json", *names)
    assert states(run(world, tmp_path, *given)) == expected


def test_a_name_of_nothing_is_reported_and_nothing_is_done(
    world: RollingWorld, tmp_path: Path
) -> None:
    # A pod of a controller is no workload, and a ReplicaSet is no Deployment.
    names = ("replicaset/crm", "deployment/shop", "pod/shop-0")
    outcome = run(world, tmp_path, "-n", "mendix", "--yes", *names)
    assert outcome.exit_code == 2
    assert outcome.stderr == (
        "Error: no pod of deployment/shop, pod/shop-0 in namespace mendix; did you mean "
        "replicaset/shop?\n"
    )
    assert world.done == []


# Asking.


@pytest.mark.parametrize(("answer", "code", "done"), [("y\n", 0, 4), ("n\n", 1, 0)])
def test_at_a_terminal_the_user_is_asked(
    world: RollingWorld,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    code: int,
    done: int,
) -> None:
    monkeypatch.setattr("webhook.cli._cluster.interactive", lambda: True)
    outcome = run(world, tmp_path, "-n", "mendix", stdin=answer)
    assert outcome.stderr.splitlines()[:3] == [
        "mendix/mendix-operator: restart (1 pod: outside the mesh)",
        "mendix/crm: evict its pods (1 pod: outside the mesh)",
        "mendix/shop: evict its pods (2 pods: outside the mesh)",
    ]
    assert "Restart 3 workloads?" in outcome.stderr
    assert (outcome.exit_code, len(world.done)) == (code, done)


# Ends before all is done.


def ends_at(monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException) -> None:
    real = Restarter.restart

    def restart(self: Restarter, step: Any, progress: Any) -> None:
        if step.workload.name == name:
            raise error
        real(self, step, progress)

    monkeypatch.setattr(Restarter, "restart", restart)


def budget(world: RollingWorld, name: str, *, healthy: int, expected: int) -> None:
    where = f"/apis/policy/v1/namespaces/mendix/poddisruptionbudgets/{name}"
    counts = {"expectedPods": expected, "desiredHealthy": healthy}
    selector = {"matchLabels": {"app": name}}
    world.add(where, {"spec": {"selector": selector}, "status": counts})


def test_what_a_budget_blocks_is_reported_and_the_rest_continues(
    world: RollingWorld, tmp_path: Path
) -> None:
    """A Mendix app of one replica has a budget that needs it, since operator 2.25."""
    budget(world, "crm", healthy=1, expected=1)
    budget(world, "shop", healthy=1, expected=2)
    outcome = run(world, tmp_path, "-n", "mendix", "--yes", "-o", "json")
    assert outcome.exit_code == 1
    assert states(outcome) == {
        "mendix-operator": "done", "crm": "blocked", "shop": "done",
        "mendix-backup-restore": "left",
    }  # fmt: skip
    assert "evict crm-0" not in world.done
    (blocked,) = [one for one in json.loads(outcome.stdout)["workloads"] if one["name"] == "crm"]
    (why,) = blocked["why"]
    assert why == (
        "PodDisruptionBudget mendix/crm allows no eviction: 1 of 1 pods must stay healthy; run the "
        "app with two replicas (kubectl -n mendix scale mendixapps.privatecloud.mendix.com/crm "
        "--replicas=2, or in the Mendix Portal if it is connected), then run this command again; "
        "or, if a short outage is acceptable, delete the pod, which ignores the budget: kubectl -n "
        "mendix delete pod crm-0"
    )


def test_a_budget_that_turns_out_to_block_does_not_stop_the_others(
    world: RollingWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends_at(monkeypatch, "crm", BlockedError("Cannot evict pod"))
    outcome = run(world, tmp_path, "-n", "mendix", "--yes", "-o", "json")
    assert (outcome.exit_code, states(outcome)["crm"]) == (1, "blocked")
    assert states(outcome)["shop"] == "done"


def test_the_first_failure_ends_the_run_and_the_rest_is_reported(
    world: RollingWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends_at(monkeypatch, "crm", RestartError("crm-0 is not ready"))
    outcome = run(world, tmp_path, "-n", "mendix", "--yes", "-o", "json")
    assert outcome.exit_code == 1
    assert states(outcome) == {
        "mendix-operator": "done", "crm": "failed", "shop": "not-done",
        "mendix-backup-restore": "left",
    }  # fmt: skip
    (failed,) = [one for one in json.loads(outcome.stdout)["workloads"] if one["name"] == "crm"]
    assert failed["why"] == ["crm-0 is not ready"]
    monkeypatch.undo()
    again = run(world, tmp_path, "-n", "mendix", "--yes", "-o", "json")
    assert again.exit_code == 0
    assert states(again) == {"crm": "done", "shop": "done", "mendix-backup-restore": "left"}


def test_ctrl_c_ends_with_130_and_a_word_on_what_was_done(
    world: RollingWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends_at(monkeypatch, "crm", KeyboardInterrupt())
    outcome = run(world, tmp_path, "-n", "mendix", "--yes")
    assert outcome.exit_code == 130
    column = [line.split()[0] for line in outcome.stdout.splitlines()[:5]]
    assert column == ["STATE", "done", "interrupted", "not-done", "left"]
    assert "4 workloads: 1 done, 1 interrupted, 1 not-done, 1 left" in outcome.stdout
    assert "run the command again" in outcome.stderr


def test_what_a_restart_would_not_help_is_skipped_and_counts_as_failed(
    world: RollingWorld, tmp_path: Path
) -> None:
    world.denial = status(500, "InternalError", "failed calling webhook: no endpoints")
    outcome = run(world, tmp_path, "-n", "mendix", "--yes")
    assert outcome.exit_code == 1
    (both,) = re.findall(r"skipped  (.*)\n    failed calling webhook", outcome.stdout)
    assert (
        both == "Deployment mendix/mendix-operator, ReplicaSet mendix/crm, ReplicaSet mendix/shop"
    )
    assert world.done == []


# Invalid input.


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "give either -n, or --enrolled"),
        (["-n", "mendix", "--enrolled"], "give either -n, or --enrolled"),
        (["-n", "nowhere"], "namespace nowhere does not exist"),
        (["-n", "others"], "not enrolled: others. Pods would not join a mesh after a restart"),
        (["-n", "typo"],
         "namespace typo: the value of its label mendix-mesh.io/mesh is not a mesh"),
        (["-n", "mendix", "--timeout", "0"], "--timeout"),
        (["-n", "mendix"], "give --yes or --dry-run"),
        *((["-n", "mendix", "--dry-run", name],
           "is not KIND/NAME; example: deployment/shop")
          for name in ("shop", "deployment/", "/shop", "deployment/Shop", "a/b/c", "4j/x")),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_reported(
    world: RollingWorld, tmp_path: Path, arguments: list[str], text: str
) -> None:
    world.namespace("typo", "linkrd")
    outcome = run(world, tmp_path, *arguments)
    assert outcome.exit_code == 2
    assert text in outcome.stderr
    assert world.done == []


def test_a_right_to_look_that_is_missing_is_reported_before_anything_is_done(
    world: RollingWorld, tmp_path: Path
) -> None:
    world.forbidden = ["/apis/apps/v1/namespaces/mendix/replicasets"]
    outcome = run(world, tmp_path, "-n", "mendix", "--yes")
    assert outcome.exit_code == 2
    assert "cannot get" in outcome.stderr
    assert world.done == []
