"""`mendix-mesh explain`: every text that a message refers to is there."""

import re
import tomllib
import zipfile
from pathlib import Path

import hatchling.build
import pytest
from click.testing import CliRunner, Result

from webhook.cli import main
from webhook.cli.explain import all_sections, sections, topics
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
    assert [one for one in named - topics().keys() - {"shows"} if not sections(one)] == []


def test_without_a_topic_all_are_listed() -> None:
    lines = run().stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(topics())
    assert all(len(line.split()) > 1 for line in lines)
    assert all(len(line) <= 110 for line in lines)


def test_an_unknown_topic_is_an_error_with_the_nearest_one() -> None:
    done = run("host-netwrk")
    assert done.exit_code == 2
    assert 'unknown topic "host-netwrk"; did you mean "host-network"?' in done.stderr


def test_words_of_a_heading_print_its_section() -> None:
    done = run("emergency")
    assert done.exit_code == 0
    assert done.stdout.startswith("# In an emergency\n")
    assert "kubectl delete validatingwebhookconfiguration/mendix-mesh" in done.stdout
    assert "### Controllers that wait" in done.stdout
    assert "## Restore a backup" not in done.stdout
    assert "\n  mendix-mesh explain upgrade  Upgrade, uninstall, emergency" in done.stdout


@pytest.mark.parametrize(
    ("words", "topic"),
    [
        ("exemption", "exempt-a-pod"),
        ("exemptions", "settings-exemptions"),
        ("enforce", "3-enforce-close-the-gate"),
        ("annotations", "labels"),
    ],
)
def test_if_several_sections_have_the_words_all_are_listed(words: str, topic: str) -> None:
    done = run(words)
    assert done.exit_code == 0
    assert done.stdout.startswith(f'sections about "{words}":\n')
    assert re.search(rf"^  mendix-mesh explain {topic} ", done.stdout, re.MULTILINE)


def test_every_section_can_be_printed_by_the_name_that_a_list_shows() -> None:
    found = [one for one in all_sections() if one.topic not in topics()]
    assert len(found) > len(topics())
    for one in found:
        assert one in sections(one.topic)
        assert len({other.topic for other in sections(one.topic)}) == 1


def test_a_comment_in_a_command_is_no_heading() -> None:
    done = run("replace the CA")
    assert "# 2. Trust both." in done.stdout
    assert "After two minutes" in done.stdout


def test_the_other_examples_of_a_check_are_left_to_its_page() -> None:
    assert "It also reports" in topics()["checks"]
    assert "It also reports" not in run("capture-bypassed").stdout


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
