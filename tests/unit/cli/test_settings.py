"""The settings file in commands: a mistake is reported in one line, with its place."""

import datetime
from pathlib import Path

import pytest

from webhook.cli._errors import BadInputError
from webhook.cli._settings import read_settings
from webhook.policy.settings import Settings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "settings.yaml"


def test_without_a_file_there_are_the_defaults() -> None:
    assert read_settings(None) == Settings()


@pytest.mark.parametrize("text", ["", "\n", "# nothing yet\n", "---\n", "null\n", "{}\n"])
def test_an_empty_file_gives_the_defaults(file: Path, text: str) -> None:
    file.write_text(text)
    assert read_settings(file) == Settings()


def test_a_full_file_is_read(file: Path) -> None:
    file.write_text("""
optOut: override
linkerd:
  controlPlaneNamespace: mesh
  proxyImages: [registry.example.com/linkerd/proxy]
  skipInboundPorts: "4190, 4191,8000-8010"
  inboundPolicy: all-authenticated
ingress:
  classes: {public: f5-nginx}
levels:
- {reason: later, check: udp-port, level: deny}
exemptions:
- reason: node agent
  namespaces: [kube-agents, "agents-*"]
  checks: [host-network]
  selector:
    matchLabels: {app: agent}
    matchExpressions:
    - {key: tier, operator: NotIn, values: [web]}
  until: 2027-06-30
""")
    read = read_settings(file)
    assert read.opt_out == "override"
    assert read.linkerd.control_plane_namespace == "mesh"
    assert read.linkerd.inbound_policy == "all-authenticated"
    assert read.ingress.classes == {"public": "f5-nginx"}
    assert read.levels[0].namespaces == ["*"]
    assert read.exemptions[0].until == datetime.date(2027, 6, 30)


def test_values_of_the_chart_that_are_only_settings_are_read(file: Path) -> None:
    file.write_text("settings:\n  linkerd: {proxyUid: 3000}\n")
    assert read_settings(file).linkerd.proxy_uid == 3000


def test_beside_other_keys_settings_is_an_unknown_key(file: Path) -> None:
    file.write_text("settings: {optOut: override}\noptOut: deny\n")
    with pytest.raises(BadInputError, match="If this is a Helm values file"):
        read_settings(file)


def test_json_is_yaml(file: Path) -> None:
    file.write_text('{"optOut": "override"}')
    assert read_settings(file).opt_out == "override"


EXEMPTION = "reason: x, namespaces: [a], checks: [host-network]"
BAD = {
    "exemptions: &a\n- *a": ": must be a mapping, not a list - at `settings.exemptions[0]`; "
    "start with a key, for example `reason:`",
    "optOut: deny\noptOut: override": ":2:1: not YAML: duplicate key `optOut`",
    "linkerd:\n  proxyUid: 5\n  proxyUid: 6": ":3:3: not YAML: duplicate key `proxyUid`",
    "optOut: deny\nlinkerd: [": ":3:1: not YAML: did not find expected node content",
    "optOut:\n\tdeny": ":2:1: not YAML: found character that cannot start any token",
    "a: b: c": ":1:5: not YAML: mapping values are not allowed in this context",
    "optOut: *x": ":1:9: not YAML: found undefined alias",
    "{[a]: b}": ":1:2: not YAML: found unhashable key",
    "!!python/object:os.system x": (
        ":1:1: not YAML: could not determine a constructor for the tag "
        "'tag:yaml.org,2002:python/object:os.system'"
    ),
    '{"optOut": "deny", "optOut": "override"}': ":1:20: not YAML: duplicate key `optOut`",
    "[" * 200_000: ":1: nested more than 300 levels deep",
    "optOut: deny\n---\noptOut: deny": ": expected one YAML document with settings, found 2",
}


@pytest.mark.parametrize("text", BAD)
def test_a_mistake_is_named_with_its_place(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(BadInputError) as error:
        read_settings(file)
    assert error.value.message == f"{file}{BAD[text]}"
    assert error.value.exit_code == 2


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"optOut: \xff\xff", b"\x00", b"a: \x1b[31m"])
def test_bytes_that_are_no_text_are_no_yaml(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    with pytest.raises(BadInputError) as error:
        read_settings(file)
    assert error.value.message.startswith(f"{file}:1: not YAML: ")
    assert error.value.message.isprintable()


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInputError) as error:
        read_settings(tmp_path / name)
    assert error.value.message.startswith(f"can't read {tmp_path / name}: ")


def test_a_path_that_is_no_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="File name too long"):
        read_settings(tmp_path / ("x" * 300))
