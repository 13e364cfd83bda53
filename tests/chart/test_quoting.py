"""Values stay what they are: YAML must not read a text as a number, a boolean or null."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.chart import helm

TEMPLATES = sorted((helm.CHART / "templates").rglob("*.*"))
#: A scalar of a template that has a value in it: after `- ` or `key: `.
_SCALAR = re.compile(r"^\s*(?:- |[\w./\"-]+: )+(?P<text>.*\{\{.*)$")
_EXPRESSION = re.compile(r"\{\{-?\s*(?!/\*|`)(.*?)\s*-?\}\}")
_CONTROL = re.compile(
    r"(?:if|else|with|range|end|define|include \"[^\"]+\" \S+ \| nindent)\b|\$\w+ :?="
)
_SAFE = re.compile(r"\b(?:quote|toYaml|toJson|int64|nindent|celList)\b")


def unquoted(text: str) -> Iterator[str]:
    """Yield the lines of a template in which a value is neither quoted nor encoded."""
    block = -1
    for line in text.splitlines():
        indent = len(line) - len(line.lstrip())
        if line.strip() and indent <= block:
            block = -1
        if block < 0 and (found := _SCALAR.match(line)):
            expressions = _EXPRESSION.findall(found["text"])
            if any(not _CONTROL.match(one) and not _SAFE.search(one) for one in expressions):
                yield line.strip()
        if re.search(r": [>|]-?$|- [>|]-?$", line):  # a block is text, whatever is in it
            block = indent


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_every_value_is_quoted_or_encoded(template: Any) -> None:
    assert template.suffix == ".txt" or list(unquoted(template.read_text())) == []


def test_a_value_that_is_not_quoted_is_noticed() -> None:
    lines = (
        "  name: {{ .Values.a }}",
        "  - --a={{ .Values.a }}",
        "  - {{ .Values.a | default 1 }}",
    )
    for line in lines:
        assert list(unquoted(line)) == [line.strip()]
    assert list(unquoted("  name: {{ .Values.a | quote }}\n  {{- if .Values.a }}")) == []
    assert list(unquoted("  text: >-\n    - a: {{ .Values.a }}\n  name: {{ .b }}")) == [
        "name: {{ .b }}"
    ]


#: Texts that YAML reads as something else if they have no quotes.
LOOKALIKES = ("1e3", "0x10", "123", "null", "true", "no", "12e03")


@pytest.mark.parametrize("name", LOOKALIKES)
def test_a_name_that_looks_like_something_else_stays_a_name(name: str) -> None:
    values: dict[str, Any] = {
        "tls": {"secretName": name, "certManager": {"issuerRef": {"name": name, "group": name}}},
        "clientCertificates": {"caSecretName": name, "key": name, "names": [name]},
        "image": {"repository": name, "tag": name},
        "imagePullSecrets": [{"name": name}],
        "priorityClassName": name,
        "podLabels": {"a": name},
        "podAnnotations": {"a": name},
        "nodeSelector": {"a": name},
        "serviceMonitor": {"enabled": True, "labels": {"a": name}},
        "prometheusRule": {"enabled": True, "runbooks": name},
        "grafanaDashboard": {"enabled": True, "annotations": {"a": name}},
        "namespaces": [{"name": name, "mesh": "linkerd"}],
        "auditor": {"priorityClassName": name, "tlsSecretName": f"{name}-auditor",
                    "dashboard": {"expose": True, "allowedHosts": [name]}},
        "settings": {"istio": {"revision": name}},
    }  # fmt: skip
    rendered = helm.render(values, namespace="1e9", release=name)
    # An object decodes, has strings where Kubernetes wants them, and names what was given.
    for found in rendered.objects:
        for path, text in _texts(found):
            assert isinstance(text, str), f"{found['kind']} {path}: {text!r}"
    pod = rendered.one("Deployment")["spec"]["template"]["spec"]
    assert pod["priorityClassName"] == pod["imagePullSecrets"][0]["name"] == name
    assert pod["nodeSelector"] == {"a": name}
    assert {volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume} == {
        name
    }
    assert f"--client-name={name}" in pod["containers"][0]["args"]


#: Fields that hold only texts, wherever they are in an object.
_OF_TEXTS = ("labels", "annotations", "args", "nodeSelector", "dnsNames", "matchLabels", "data",
             "resourceNames")  # fmt: skip
_TEXTS = ("name", "namespace", "secretName", "key", "group", "image", "priorityClassName",
          "serverName", "path", "runbook_url", "duration", "renewBefore", "interval")  # fmt: skip


def _texts(found: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the parts of an object that must be strings."""
    if isinstance(found, list):
        for index, inner in enumerate(found):
            yield from _texts(inner, f"{path}[{index}]")
    if not isinstance(found, dict):
        return
    for key, inner in found.items():
        where = f"{path}.{key}"
        if key in _TEXTS and not isinstance(inner, dict | list):
            yield where, inner
        elif key in _OF_TEXTS and isinstance(inner, dict | list):
            members = inner.values() if isinstance(inner, dict) else inner
            yield from ((where, text) for text in members if not isinstance(text, dict | list))
        yield from _texts(inner, where)
