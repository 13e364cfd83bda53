"""`mendix-mesh discover`: Mendix's namespaces, and enrolling them."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from tests.standins.linkerd_config import InjectorConfig
from tests.standins.linkerd_values import values
from tests.unit.cluster import mendix, policies
from tests.unit.cluster.hospital import MUTATING
from tests.unit.cluster.world import (
    CONFIGURATION,
    LABELLED,
    MESH,
    MODE,
    Json,
    World,
    meshed,
    unmeshed,
)
from webhook.cli import main

AT = "mendix-mesh.io/enrolled-at"


@pytest.fixture
def world() -> World:
    """A namespace with its own operator, one of a Global Operator, and one without Mendix."""
    made = World()
    made.install()
    mendix.define(made)
    for name in ("apps", "managed", "others"):
        made.namespace(name)
    mendix.operator(made, "apps")
    for name in ("shop", "crm"):
        mendix.resource(made, "MendixApp", "apps", name)
    for name in ("apps", "managed"):
        mendix.resource(made, "StoragePlan", name, "postgres")
        mendix.resource(made, "OperatorConfiguration", name, "mendix-operator-configuration")
    return made


def run(world: World, folder: Path, *arguments: str, stdin: str = "") -> Result:
    with world.serving(folder) as server:
        given = ["discover", "--kubeconfig", str(server.kubeconfig), *arguments]
        return CliRunner().invoke(main, given, input=stdin)


def found(world: World, folder: Path, *arguments: str) -> dict[str, dict[str, Any]]:
    outcome = run(world, folder, *arguments, "-o", "json")
    assert outcome.exit_code == 0, outcome.output
    return {one["name"]: one for one in json.loads(outcome.stdout)["namespaces"]}


def labels(world: World, name: str) -> dict[str, str]:
    meta = world.objects[f"/api/v1/namespaces/{name}"]["metadata"]
    marks: dict[str, str] = {**(meta["labels"] or {}), **(meta.get("annotations") or {})}
    return marks


def test_namespaces_are_found_by_their_custom_resources(world: World, tmp_path: Path) -> None:
    namespaces = found(world, tmp_path)
    assert list(namespaces) == ["apps", "managed"]
    assert namespaces["apps"]["resources"] == {
        "operatorconfigurations": 1, "storageplans": 1, "mendixapps": 2,
    }  # fmt: skip
    assert (namespaces["apps"]["operator"], namespaces["managed"]["operator"]) == (
        "2.25.0", "global",
    )  # fmt: skip
    assert {name: one["missing"] for name, one in namespaces.items()} == {
        name: [f"not enrolled: run mendix-mesh discover --enroll -n {name}"]
        for name in ("apps", "managed")
    }


@pytest.mark.parametrize("enroll", [(), ("--enroll", "--mesh", "linkerd", "--yes")])
def test_a_namespace_that_does_not_exist_is_exit_code_2_with_the_nearest_name(
    world: World, tmp_path: Path, enroll: tuple[str, ...]
) -> None:
    outcome = run(world, tmp_path, "-n", "managd", *enroll)
    assert (outcome.exit_code, outcome.stdout) == (2, "")
    assert outcome.stderr == (
        "Error: namespace managd does not exist; did you mean managed? kubectl get namespaces "
        "lists all namespaces\n"
    )


def test_the_table_names_what_is_missing(world: World, tmp_path: Path) -> None:
    world.namespace("managed", "linkerd")
    outcome = run(world, tmp_path)
    assert outcome.stdout.splitlines() == [
        "NAMESPACE  MESH     MODE     OPERATOR  APPS  MISSING",
        "apps       -        -        2.25.0    2     "
        "not enrolled: run mendix-mesh discover --enroll -n apps",
        "managed    linkerd  enforce  global    0     -",
    ]
    assert outcome.stderr == ""


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        (("linkerd", "warn"), "mode warn denies nothing: set the label "
         "mendix-mesh.io/mode=enforce"),
        (("linkred", ""), "the label mendix-mesh.io/mesh=linkred is not a mesh: "
         "set it to linkerd, istio, "
         "ambient"),
    ],
)  # fmt: skip
def test_an_enrollment_that_is_not_whole_is_reported(
    world: World, tmp_path: Path, given: tuple[str, str], missing: str
) -> None:
    world.namespace("apps", *given)
    assert found(world, tmp_path)["apps"]["missing"] == [missing]


def test_a_label_that_the_webhook_leaves_out_is_reported(world: World, tmp_path: Path) -> None:
    world.namespace("apps", "linkerd")
    for entry in world.objects[next(key for key in world.objects if "validating" in key)][
        "webhooks"
    ]:
        entry["namespaceSelector"]["matchExpressions"].append(
            {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["apps"]}
        )
    (missing,) = found(world, tmp_path)["apps"]["missing"]
    assert missing == (
        "the label mendix-mesh.io/mesh has no effect: the webhook excludes this namespace"
    )


def test_a_namespace_without_an_operator_and_one_without_storage_are_reported(
    tmp_path: Path,
) -> None:
    world = World()
    world.install()
    world.namespace("apps", "linkerd")
    mendix.define(world)
    mendix.resource(world, "MendixApp", "apps", "shop")
    assert found(world, tmp_path)["apps"]["missing"] == [
        "no StoragePlan: no app can be created here",
        "no Deployment mendix-operator found that manages this namespace",
    ]


@pytest.mark.parametrize(
    ("image", "version"),
    [("example.com:5000/mendix-operator@sha256:abc", "unknown"),
     ("example.com:5000/mendix-operator:2.27.0@sha256:abc", "2.27.0")],
)  # fmt: skip
def test_the_operators_version_is_its_images_tag(
    world: World, tmp_path: Path, image: str, version: str
) -> None:
    mendix.operator(world, "apps", image)
    assert found(world, tmp_path)["apps"]["operator"] == version


def test_a_cluster_without_mendix_is_reported(tmp_path: Path) -> None:
    world = World()
    outcome = run(world, tmp_path)
    assert (outcome.exit_code, outcome.stdout) == (0, "")
    assert "no Mendix custom resource found in the cluster" in outcome.stderr


def test_a_namespace_that_is_not_mendixs_is_reported(world: World, tmp_path: Path) -> None:
    outcome = run(world, tmp_path, "-n", "apps", "-n", "others")
    assert "Warning: namespace others has no Mendix custom resource" in outcome.stderr
    assert "managed" not in outcome.stdout


def test_forbidden_reads_are_reported(world: World, tmp_path: Path) -> None:
    world.forbidden = ["/apis/apps/v1", "/apis/admissionregistration.k8s.io",
                       "/api/v1/namespaces/managed"]  # fmt: skip
    outcome = run(world, tmp_path)
    assert outcome.exit_code == 0
    assert [line.split(":")[1].strip() for line in outcome.stderr.splitlines()] == [
        "enrollment is read only from namespace labels",
        "the versions of the Mendix operators are unknown", "managed",
    ]  # fmt: skip
    assert "unknown" in outcome.stdout


def test_without_the_right_to_list_custom_resources_it_ends_with_2(
    world: World, tmp_path: Path
) -> None:
    world.forbidden = [f"{mendix.GROUP}/v1alpha1"]
    outcome = run(world, tmp_path)
    assert outcome.exit_code == 2
    assert outcome.stderr.startswith('Error: User "someone" cannot get ')
    assert len(outcome.stderr.splitlines()) == 1


def test_enrolling_labels_what_is_not_enrolled_and_notes_when(world: World, tmp_path: Path) -> None:
    world.namespace("managed", "linkerd", "audit")
    # The API server notes it; this one does not.
    fields: Json = {"f:metadata": {"f:labels": {f"f:{MESH}": {}}}}
    world.namespace("apps", managedFields=[{"time": LABELLED, "fieldsV1": fields}])
    outcome = run(world, tmp_path, "--enroll", "--mesh", "linkerd", "--yes")
    assert outcome.exit_code == 0, outcome.output
    assert labels(world, "apps") == {MESH: "linkerd", MODE: "warn", AT: LABELLED}
    assert labels(world, "managed") == {MESH: "linkerd", MODE: "audit"}
    assert labels(world, "others") == {}
    assert "apps: mendix-mesh.io/mesh=linkerd, mendix-mesh.io/mode=warn" in outcome.stderr
    assert "apps is labelled" in outcome.stderr


def test_a_dry_run_changes_nothing_and_shows_what_the_api_server_warns_of(
    world: World, tmp_path: Path
) -> None:
    world.warnings["/api/v1/namespaces/apps"] = "3 pods would be denied"
    outcome = run(world, tmp_path, "--enroll", "--mesh", "istio", "--dry-run", "-n", "apps")
    assert outcome.exit_code == 0
    assert "Warning: 3 pods would be denied" in outcome.stderr
    assert "apps would be labelled" in outcome.stderr
    assert labels(world, "apps") == {}


def test_a_namespace_that_is_not_mendixs_is_not_enrolled(world: World, tmp_path: Path) -> None:
    outcome = run(
        world, tmp_path, "--enroll", "--mesh", "istio", "-n", "apps", "-n", "others", "-y"
    )
    assert outcome.exit_code == 2
    assert (
        "Error: nothing was changed: namespace others has no Mendix custom resource"
        in outcome.stderr
    )
    assert labels(world, "apps") == {}


def test_an_enrolled_namespace_changes_only_as_the_options_say(
    world: World, tmp_path: Path
) -> None:
    world.namespace("apps", "linkerd", "warn")
    outcome = run(world, tmp_path, "--enroll", "--mode", "enforce", "-n", "apps", "-y")
    assert "(now mendix-mesh.io/mesh=linkerd, mendix-mesh.io/mode=warn)" in outcome.stderr
    assert labels(world, "apps") == {MESH: "linkerd", MODE: "enforce"}
    again = run(world, tmp_path, "--enroll", "--mode", "enforce", "-n", "apps", "-y")
    assert "nothing to do" in again.stderr


@pytest.mark.parametrize(
    ("meta", "mesh"),
    [
        ({"annotations": {"linkerd.io/inject": "enabled"}}, "linkerd"),
        ({"labels": {"istio-injection": "enabled"}}, "istio"),
        ({"labels": {"istio.io/rev": "canary"}}, "istio"),
        ({"labels": {"istio.io/dataplane-mode": "ambient"}}, "ambient"),
        # An unmarked one follows the others, if they agree.
        ({}, "istio"),
    ],
)
def test_the_mesh_is_guessed_by_the_namespaces_own_marks(
    world: World, tmp_path: Path, meta: dict[str, Any], mesh: str
) -> None:
    world.namespace("managed", "istio")
    world.namespace("apps", **meta)
    outcome = run(world, tmp_path, "--enroll", "--yes")
    assert outcome.exit_code == 0, outcome.output
    assert labels(world, "apps")[MESH] == mesh


def test_the_mesh_that_all_namespaces_share_is_found_for_one_that_is_named(
    world: World, tmp_path: Path
) -> None:
    world.namespace("others", "istio")
    arguments = ("--enroll", "--yes", "-n", "apps")
    assert run(world, tmp_path, *arguments, "--dry-run").exit_code == 0
    assert run(world, tmp_path, *arguments).exit_code == 0
    assert labels(world, "apps")[MESH] == "istio"
    world.namespace("crm", "linkerd")
    outcome = run(world, tmp_path, "--enroll", "--yes", "-n", "managed")
    assert (outcome.exit_code, labels(world, "managed")) == (2, {})


def test_an_enrolled_namespace_that_is_not_mendixs_can_be_changed_by_its_name(
    world: World, tmp_path: Path
) -> None:
    world.namespace("others", "linkerd", "warn")
    assert "others" not in found(world, tmp_path)
    assert found(world, tmp_path, "-n", "others")["others"]["missing"][-1] == (
        "no Mendix custom resource"
    )
    run(world, tmp_path, "--enroll", "--mode", "enforce", "-n", "others", "-y")
    assert labels(world, "others")[MODE] == "enforce"


def test_what_is_printed_afterwards_is_about_what_was_changed(world: World, tmp_path: Path) -> None:
    arguments = ("--enroll", "--mesh", "linkerd", "-n", "apps", "-y")
    printed = run(world, tmp_path, *arguments).stderr.splitlines()
    assert printed[-1] == (
        "new pods of apps join the mesh; to find running pods outside the mesh: "
        "mendix-mesh audit -n apps"
    )
    printed = run(world, tmp_path, *arguments, "--mode", "enforce").stderr.splitlines()
    assert printed[-1] == (
        "new pods outside the mesh are now denied in apps; running pods: mendix-mesh audit -n apps"
    )
    printed = run(world, tmp_path, *arguments).stderr.splitlines()
    assert printed[-1] == "nothing to do: all namespaces are already enrolled like this"


def test_after_an_uninstall_no_mode_is_shown_and_nothing_is_promised(
    world: World, tmp_path: Path
) -> None:
    del world.objects[CONFIGURATION]
    world.namespace("apps", "linkerd", "enforce")
    outcome = run(world, tmp_path, "-n", "apps")
    assert outcome.stdout.splitlines()[1] == (
        "apps       linkerd  -     2.25.0    2     its labels have no effect: mendix-mesh is not "
        "installed"
    )
    outcome = run(world, tmp_path, "--enroll", "--mesh", "istio", "-n", "apps", "-y")
    assert outcome.stderr.splitlines()[-1] == (
        "mendix-mesh is not installed, so the labels have no effect yet; mendix-mesh explain "
        "install shows how to install it"
    )


def test_a_mesh_that_cannot_be_guessed_must_be_given(world: World, tmp_path: Path) -> None:
    both: Json = {"annotations": {"linkerd.io/inject": "enabled"},
            "labels": {"istio-injection": "enabled"}}  # fmt: skip
    world.namespace("apps", **both)
    outcome = run(world, tmp_path, "--enroll", "--yes", "-n", "apps")
    assert outcome.exit_code == 2
    assert outcome.stderr == (
        "Error: namespace apps: its labels and annotations name no mesh, and no other namespace "
        "shows which one to use; give --mesh\n"
    )


def test_without_a_terminal_a_question_is_an_error_and_changes_nothing(
    world: World, tmp_path: Path
) -> None:
    outcome = run(world, tmp_path, "--enroll", "--mesh", "istio")
    assert outcome.exit_code == 2
    assert outcome.stderr.endswith("give --yes or --dry-run\n")
    assert labels(world, "apps") == {}


@pytest.mark.parametrize(("answer", "done"), [("y\n", True), ("n\n", False)])
def test_a_change_needs_confirmation(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, done: bool
) -> None:
    monkeypatch.setattr("webhook.cli._cluster.interactive", lambda: True)
    outcome = run(world, tmp_path, "--enroll", "--mesh", "istio", stdin=answer)
    assert "Label 2 namespaces? [y/N]" in outcome.stderr
    assert outcome.exit_code == (0 if done else 1)
    assert bool(labels(world, "apps")) is done


def test_a_denial_shows_what_was_done_before(world: World, tmp_path: Path) -> None:
    arguments = ("--enroll", "--mesh", "istio", "--yes")
    plain = world.answer

    def failing(request: Any) -> Any:
        if request.method == "PATCH":
            world.forbidden = ["/api/v1/namespaces/managed"]
        return plain(request)

    world.answer = failing  # type: ignore[method-assign]
    outcome = run(world, tmp_path, *arguments)
    assert outcome.exit_code == 2
    assert outcome.stderr.splitlines()[-1].endswith("; labelled so far: apps")


def test_options_of_enrolling_belong_to_it(world: World, tmp_path: Path) -> None:
    outcome = run(world, tmp_path, "--mesh", "istio")
    assert outcome.exit_code == 2
    assert "need --enroll" in outcome.stderr


def test_what_is_to_be_done_comes_as_json_too(world: World, tmp_path: Path) -> None:
    outcome = run(world, tmp_path, "--enroll", "--mesh", "istio", "--dry-run", "-n", "apps",
                  "-o", "json")  # fmt: skip
    assert json.loads(outcome.stdout) == {
        "changes": [{"name": "apps", "labels": {MESH: "istio", MODE: "warn"}, "before": {}}],
        "dryRun": True,
    }


POLICY = "config.linkerd.io/default-inbound-policy"
PEER = f"{policies.ISTIO}/v1/namespaces/apps/peerauthentications/default"


def strict(world: World, folder: Path, *arguments: str, mesh: str = "istio") -> Result:
    given = ("--enroll", "--strict", "--mesh", mesh, "-n", "apps", *arguments)
    return run(world, folder, *given)


def test_strict_gives_istio_s_namespaces_a_policy(world: World, tmp_path: Path) -> None:
    policies.define(world)
    outcome = strict(world, tmp_path, "-y")
    assert outcome.exit_code == 0, outcome.output
    assert world.objects[PEER]["spec"] == {"mtls": {"mode": "STRICT"}}
    assert labels(world, "apps")[MESH] == "istio"
    assert "apps: PeerAuthentication apps/default with mode STRICT" in outcome.stderr
    assert "apps is closed to plaintext" in outcome.stderr
    again = strict(world, tmp_path, "-y")
    assert (again.exit_code, "apps: is already closed to plaintext" in again.stderr) == (0, True)


def test_strict_gives_linkerd_s_namespaces_the_annotation(world: World, tmp_path: Path) -> None:
    outcome = strict(world, tmp_path, "-y", mesh="linkerd")
    assert outcome.exit_code == 0, outcome.output
    assert labels(world, "apps")[POLICY] == "all-authenticated"
    assert "stays open: running pods, until they are replaced" in outcome.stderr
    old = meshed("linkerd")
    old["metadata"]["annotations"][POLICY] = "all-unauthenticated"
    world.pod("apps", "old", old)
    again = strict(world, tmp_path, "-y", mesh="linkerd")
    assert "apps: its policy already refuses plaintext" in again.stderr
    assert "stays open: all ports of old: " in again.stderr


def test_strict_changes_nothing_if_a_client_would_be_cut_off(world: World, tmp_path: Path) -> None:
    policies.define(world)
    world.pod("apps", "old", unmeshed("istio"))
    outcome = strict(world, tmp_path, "-y")
    assert outcome.exit_code == 1
    assert "  cut off: Pod apps/old: is in the namespace but outside the mesh" in outcome.stderr
    assert "give --cut-off-anyway" in outcome.stderr
    assert PEER not in world.objects
    assert labels(world, "apps") == {}
    assert strict(world, tmp_path, "-y", "--cut-off-anyway").exit_code == 0
    assert PEER in world.objects


def test_strict_stops_if_it_could_not_check_the_clients(world: World, tmp_path: Path) -> None:
    policies.define(world)
    world.forbidden = ["/api/v1/namespaces/apps/services"]
    outcome = strict(world, tmp_path, "-y")
    assert outcome.exit_code == 1
    assert "could not check Services that are reachable from outside" in outcome.stderr
    assert PEER not in world.objects


def test_a_dry_run_of_strict_changes_nothing(world: World, tmp_path: Path) -> None:
    policies.define(world)
    outcome = strict(world, tmp_path, "--dry-run", "-o", "json")
    assert outcome.exit_code == 0
    assert PEER not in world.objects
    (step,) = json.loads(outcome.stdout)["strict"]
    assert (step["name"], step["mesh"], step["cut_off"]) == (
        "apps", "istio", {"callers": [], "unknown": []},
    )  # fmt: skip
    assert "apps would be closed to plaintext" in outcome.stderr


def test_a_policy_that_is_there_is_never_changed(world: World, tmp_path: Path) -> None:
    policies.define(world)
    policies.peer(world, "apps", "loose", "PERMISSIVE")
    outcome = strict(world, tmp_path, "-y")
    assert outcome.exit_code == 1
    assert "kubectl -n apps patch peerauthentication loose" in outcome.stderr
    assert PEER not in world.objects


def test_what_stays_open_under_a_strict_policy_is_reported(world: World, tmp_path: Path) -> None:
    policies.define(world)
    ports = {"8900": {"mode": "PERMISSIVE"}}
    selector = {"matchLabels": {"app": "shop"}}
    policies.peer(world, "apps", "metrics", "UNSET", selector=selector, portLevelMtls=ports)
    outcome = strict(world, tmp_path, "-y")
    assert outcome.exit_code == 0, outcome.output
    assert (
        "stays open: PeerAuthentication apps/metrics: spec.portLevelMtls[8900].mode is PERMISSIVE"
        in outcome.stderr
    )


def test_without_istio_there_is_nothing_to_write(world: World, tmp_path: Path) -> None:
    outcome = strict(world, tmp_path, "-y")
    assert outcome.exit_code == 1
    assert "the API group security.istio.io does not exist" in outcome.stderr


@pytest.mark.parametrize("option", ["--strict", "--cut-off-anyway"])
def test_the_options_of_strict_need_what_they_belong_to(
    world: World, tmp_path: Path, option: str
) -> None:
    assert run(world, tmp_path, option).exit_code == 2


def linkerd_config(world: World, **change: Any) -> None:
    text = yaml.safe_dump(values(InjectorConfig(**change)))
    world.config_map("linkerd", "linkerd-config", values=text)


def test_the_settings_of_the_installed_mesh_are_printed_as_values_for_the_chart(
    world: World, tmp_path: Path
) -> None:
    linkerd_config(world, proxy_uid=3000)
    outcome = run(world, tmp_path, "--settings")
    assert (outcome.exit_code, outcome.stderr) == (0, "")
    assert outcome.stdout == (
        "# linkerd edge-26.8.3, read from ConfigMap linkerd/linkerd-config\n"
        "settings:\n"
        "  linkerd:\n"
        "    # ConfigMap linkerd/linkerd-config: proxy.uid\n"
        "    proxyUid: 3000\n"
    )
    assert run(world, tmp_path, "--settings", "-o", "yaml").stdout == outcome.stdout


def test_the_settings_come_as_json_too(world: World, tmp_path: Path) -> None:
    linkerd_config(world, inbound_port=5143)
    outcome = run(world, tmp_path, "--settings", "-o", "json")
    assert json.loads(outcome.stdout) == {
        "settings": {"linkerd": {"inboundPort": 5143}},
        "sources": {
            "linkerd.inboundPort": "ConfigMap linkerd/linkerd-config: proxy.ports.inbound"
        },
        "meshes": [
            {"name": "linkerd", "version": "edge-26.8.3",
             "read": ["ConfigMap linkerd/linkerd-config"]}
        ],
        "unread": [],
    }  # fmt: skip


def test_a_part_that_cannot_be_read_is_reported_and_the_rest_printed(
    world: World, tmp_path: Path
) -> None:
    linkerd_config(world)
    world.forbidden = [MUTATING]
    outcome = run(world, tmp_path, "--settings")
    assert outcome.exit_code == 1
    assert outcome.stderr.startswith(
        'Warning: MutatingWebhookConfigurations could not be read: User "someone" cannot get '
    )
    assert yaml.safe_load(outcome.stdout) == {"settings": {}}


def test_a_cluster_without_a_mesh_has_no_settings(world: World, tmp_path: Path) -> None:
    outcome = run(world, tmp_path, "--settings")
    assert (outcome.exit_code, outcome.stdout) == (2, "")
    assert outcome.stderr == (
        "Error: no configuration of Linkerd or Istio found in this cluster; "
        "install the mesh first\n"
    )


@pytest.mark.parametrize("other", [["--enroll", "--mesh", "linkerd"], ["-n", "apps"]])
def test_settings_are_the_whole_clusters(world: World, tmp_path: Path, other: list[str]) -> None:
    outcome = run(world, tmp_path, "--settings", *other)
    assert outcome.exit_code == 2
    assert "--settings covers the whole cluster; remove --enroll and -n" in outcome.stderr


def enroll(world: World, folder: Path, settings: str, mesh: str = "linkerd") -> Result:
    world.config_map("mendix-mesh", "mendix-mesh-settings", settings_yaml=settings)
    return run(world, folder, "--enroll", "--mesh", mesh, "-n", "apps", "--yes")


def test_enrolling_warns_of_settings_that_differ_before_it_labels(
    world: World, tmp_path: Path
) -> None:
    linkerd_config(world, proxy_uid=3000)
    outcome = enroll(world, tmp_path, "{}")
    assert outcome.exit_code == 0
    assert outcome.stderr.splitlines()[0] == (
        "Warning: linkerd pods may be denied, because the settings do not match the mesh: "
        "settings.linkerd.proxyUid is 2102, the mesh uses 3000 "
        "(ConfigMap linkerd/linkerd-config: proxy.uid). "
        "To print the right settings: mendix-mesh discover --settings"
    )
    assert outcome.stderr.index("do not match") < outcome.stderr.index("is labelled")
    assert labels(world, "apps")[MESH] == "linkerd"


def test_enrolling_says_nothing_of_settings_that_fit(world: World, tmp_path: Path) -> None:
    linkerd_config(world, proxy_uid=3000)
    assert "Warning" not in enroll(world, tmp_path, "linkerd: {proxyUid: 3000}").stderr


def test_enrolling_in_one_mesh_says_nothing_of_another(world: World, tmp_path: Path) -> None:
    linkerd_config(world, proxy_uid=3000)
    assert "Warning" not in enroll(world, tmp_path, "{}", mesh="istio").stderr


def test_enrolling_says_that_it_could_not_compare(world: World, tmp_path: Path) -> None:
    world.forbidden = ["/api/v1/namespaces/linkerd/configmaps"]
    outcome = enroll(world, tmp_path, "{}")
    assert outcome.exit_code == 0
    assert outcome.stderr.startswith(
        "Warning: the settings were compared with only a part of the mesh: ConfigMap "
        "linkerd/linkerd-config could not be read: User"
    )


def test_without_a_release_enrolling_names_the_option_that_it_has(
    world: World, tmp_path: Path
) -> None:
    outcome = run(world, tmp_path, "--enroll", "--mesh", "istio", "-n", "apps", "--yes")
    assert outcome.stderr.splitlines()[0].endswith("set --release-namespace")
