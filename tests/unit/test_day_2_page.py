"""docs/day-2.md and docs/rbac.yaml describe what the commands do."""

import itertools
from pathlib import Path
from typing import get_args

import click
import pytest
import yaml

from webhook.cli.audit import COMMAND as AUDIT
from webhook.cli.discover import COMMAND as DISCOVER
from webhook.cli.doctor import COMMAND as DOCTOR
from webhook.cli.restart import COMMAND as RESTART
from webhook.cli.restart import State
from webhook.cluster.audit import reports
from webhook.cluster.auditor.history import Scans
from webhook.cluster.auditor.metrics import AuditorMetrics, EnrollmentMetrics
from webhook.cluster.judge import STATES, live
from webhook.cluster.namespaces import discovery
from webhook.cluster.restart.plan import How
from webhook.policy import checks

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "day-2.md").read_text()
RIGHTS = list(yaml.safe_load_all((DOCS / "rbac.yaml").read_text()))


def rows(first: str) -> dict[str, list[str]]:
    """Return the cells of each row of the table with this title, by the first cell."""
    lines = iter(PAGE.splitlines())
    next(line for line in lines if line.startswith(f"| {first} |"))
    next(lines)
    found = {}
    for line in lines:
        if not line.startswith("| "):
            break
        name, *cells = [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        found[name] = cells
    return found


def test_every_live_check_is_there_with_its_level() -> None:
    assert {name: cells[0] for name, cells in rows("check").items()} == {
        check.id: check.level for check in live.CHECKS
    }


def test_a_live_check_has_no_name_of_policys() -> None:
    assert not {check.id for check in live.CHECKS} & checks.ids()


def test_every_state_is_there() -> None:
    assert tuple(rows("state")) == STATES


@pytest.mark.parametrize(
    ("command", "option"),
    [(DISCOVER, "--enroll"), (DISCOVER, "--dry-run"), (DISCOVER, "--yes"), (DISCOVER, "--mode"),
     (AUDIT, "--mendix"), (AUDIT, "--settings"), (AUDIT, "--release-namespace"),
     (AUDIT, "--watch"), (AUDIT, "--interval"), (AUDIT, "--listen"), (AUDIT, "--tls-listen"),
     (AUDIT, "--events"), (AUDIT, "--auto-enroll"), (AUDIT, "--write-reports"),
     (AUDIT, "--kubeconfig"), (AUDIT, "--context"),
     (RESTART, "--enrolled"), (RESTART, "--include-bare"), (RESTART, "--timeout"),
     (RESTART, "--dry-run"), (RESTART, "--yes"), (DOCTOR, "--context")],
)  # fmt: skip
def test_the_options_that_it_names_exist(command: click.Command, option: str) -> None:
    assert option in PAGE
    assert any(option in parameter.opts for parameter in command.params)


def test_the_roles_name_what_the_commands_read() -> None:
    rules = [rule for one in RIGHTS for rule in one.get("rules", ())]
    resources = {resource for rule in rules for resource in rule.get("resources", ())}
    readers = [one["metadata"]["name"] for one in RIGHTS for rule in one.get("rules", ())
               if "secrets" in rule.get("resources", ())]  # fmt: skip
    assert set(discovery.RESOURCES) <= resources
    assert {kind.plural for kind in reports.KINDS} <= resources
    assert readers == ["mendix-mesh-doctor"]
    assert not any("*" in rule["verbs"] + rule.get("resources", []) for rule in rules)


def test_every_listed_role_is_defined_and_every_defined_role_is_listed() -> None:
    listed = {role.strip(" `") for cells in rows("command | ClusterRoles").values()
              for role in cells[0].split(",")}  # fmt: skip
    guide = (DOCS / "dashboard.md").read_text()
    in_other_guides = {"mendix-mesh-dashboard", "mendix-mesh-viewer"}
    assert all(role in guide for role in in_other_guides)
    defined = {one["metadata"]["name"] for one in RIGHTS if one["kind"] == "ClusterRole"}
    assert listed | in_other_guides == defined


def test_every_metric_of_the_auditor_is_there_with_its_labels() -> None:
    known = {}
    registry = AuditorMetrics(Scans()).registry
    EnrollmentMetrics(registry)
    for family in registry.collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = getattr(family, "_labelnames", None) or (
            tuple(family.samples[0].labels) if family.samples else ()
        )
        known[name] = ", ".join(labels)
    assert {name: cells[0] for name, cells in rows("metric").items()} == known


def test_every_way_of_a_restart_is_there() -> None:
    assert {*rows("how"), "delete"} == set(get_args(How))
    named = {name.strip(" `") for cell in rows_of_restart() for name in cell.split(",")}
    assert named == set(get_args(State))


def rows_of_restart() -> list[str]:
    """The first cells of the states after the heading of restart."""
    _, _, section = PAGE.partition("## restart")
    _, _, table = section.partition("| state |")
    lines = iter(table.splitlines()[2:])
    return [line.split("|")[1] for line in itertools.takewhile(lambda one: one != "", lines)]
