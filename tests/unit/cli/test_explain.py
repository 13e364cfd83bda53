"""`mendix-mesh explain`: every text that a message refers to is there."""

import re
import tomllib
import zipfile
from pathlib import Path

import hatchling.build
import pytest
from click.testing import CliRunner, Result

from webhook.cli import main
from webhook.cli.explain import topics
from webhook.cluster.doctor.findings import all_findings
from webhook.policy import checks, plaintext

ROOT = Path(__file__).parents[3]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["explain", *arguments])


@pytest.mark.parametrize("topic", sorted(checks.ids() | plaintext.ids() | all_findings().keys()))
def test_every_check_and_finding_has_a_text_with_its_fix(topic: str) -> None:
    done = run(topic)
    assert done.exit_code == 0
    assert done.stdout.startswith(f"# {topic}\n")
    assert "fix" in done.stdout.lower()
    assert "\n## " not in done.stdout


def test_every_command_that_a_message_names_works() -> None:
    named = set()
    for file in (*ROOT.glob("webhook/**/*.py"), *ROOT.glob("charts/**/*.py"),
                 *ROOT.glob("charts/**/*.tpl")):  # fmt: skip
        # A message may be split into two string literals.
        text = re.sub(r'"\s+f?"', "", file.read_text())
        named |= set(re.findall(r"mendix-mesh explain ([a-z][a-z0-9-]+)", text))
    assert named >= {"strict", "install", "traffic", "upgrade"}
    assert named <= topics().keys() | {"shows"}


def test_without_a_topic_all_are_listed() -> None:
    lines = run().stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(topics())
    assert all(len(line.split()) > 1 for line in lines)
    assert all(len(line) <= 110 for line in lines)


def test_an_unknown_topic_is_an_error_with_the_nearest_one() -> None:
    done = run("host-netwrk")
    assert done.exit_code == 2
    assert 'unknown topic "host-netwrk"; did you mean "host-network"?' in done.stderr


def test_the_package_has_the_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    wheel = tmp_path / hatchling.build.build_wheel(str(tmp_path))
    found = set(zipfile.ZipFile(wheel).namelist())
    pages = {
        f"webhook/docs/{page.name}"
        for page in ROOT.glob("docs/*.*")
        if page.suffix in (".md", ".yaml")
    }
    assert {name for name in found if name.startswith("webhook/docs/")} == pages
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dynamic"] == ["version"]
