"""If there can be no real node, the tests say why. With MENDIX_MESH_RUN_ALL, they fail."""

import os

import pytest

from tests.node import machine
from tests.requirements import not_run


def test_what_a_node_lacks_is_named_with_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(machine, "PROGRAMS", ("sh", "no-such-program"))
    said = machine.missing()
    assert "needs no-such-program" in said
    assert "apt-get install runc containerd" in said


def test_a_test_that_cannot_run_is_reported_and_fails_if_all_must_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MENDIX_MESH_RUN_ALL", raising=False)
    with pytest.raises(pytest.skip.Exception, match="not run: no root"):
        not_run("no root")
    monkeypatch.setenv("MENDIX_MESH_RUN_ALL", "1")
    with pytest.raises(pytest.fail.Exception, match="not run: no root"):
        not_run("no root")
