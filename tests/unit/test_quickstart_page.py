"""docs/quickstart.md: its commands exist, and a test on a real API server can run them."""

import shlex

import click
import pytest

from tests.cluster import quickstart
from webhook.cli import main


def test_every_command_is_one_that_the_tests_can_run() -> None:
    assert {command.split()[0] for command, _ in quickstart.steps()} == {
        "helm",
        "kubectl",
        "mendix-mesh",
    }


def test_every_command_that_reports_has_its_output_beside_it() -> None:
    assert [command for command, shown in quickstart.steps() if not shown] == []


@pytest.mark.parametrize(
    "command", [command for command, _ in quickstart.steps() if command.startswith("mendix-mesh ")]
)
def test_a_command_of_ours_is_understood(command: str) -> None:
    _, name, *arguments = shlex.split(command)
    found = main.get_command(click.Context(main), name)
    assert found
    found.make_context(name, ["shop" if one == "NAMESPACE" else one for one in arguments])
