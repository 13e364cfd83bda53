"""Reads Kubernetes manifests from files, folders and standard input, each with its position."""

import difflib
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import yaml

from webhook.cli._errors import BadInputError
from webhook.policy.pod.workload import TEMPLATES
from webhook.policy.settings.mistakes import shown
from webhook.policy.words import printable

#: The API group of each kind that is read, as in the webhooks' rules. The core group is empty.
_GROUPS = {
    **dict.fromkeys(TEMPLATES, "apps"),
    **dict.fromkeys(("Pod", "ReplicationController", "Namespace", "List"), ""),
    **dict.fromkeys(("Job", "CronJob"), "batch"),
    "Ingress": "networking.k8s.io",
}
_KINDS = {kind.lower(): kind for kind in _GROUPS}
_SUFFIXES = (".yaml", ".yml", ".json")
#: No manifest nests deeper. Much deeper nesting crashes libyaml's composer.
_DEEPEST = 300
#: More nodes than any manifest has. Aliases that expand to more are an attack ("billion laughs").
_MOST_UNFOLDED = 10_000_000


class Document(NamedTuple):
    """One object of the input."""

    #: File and index of the document in it, from 0: `app.yaml#1`. In a List also the item's index.
    source: str
    #: The line that it starts on, from 1.
    line: int
    content: dict[str, Any]

    @property
    def kind(self) -> str:
        """Return the kind: `Job`, or `Job (batch.volcano.sh/v1alpha1)` for another API group."""
        return _qualified(self.content["kind"], self.content.get("apiVersion"))

    def reject(self, why: str) -> NoReturn:
        """Raise `BadInputError`, because the object is invalid."""
        kind = self.content["kind"]
        raise BadInputError(f"{self.source} (line {self.line}): not a valid {kind}: {why}")


def _qualified(kind: str, version: object) -> str:
    """Return the kind, with the apiVersion if its API group is not that of the known kind."""
    # Without an apiVersion, the kind decides. A wrong type is reported later.
    if not version or not isinstance(version, str):
        return kind
    group = version.rpartition("/")[0]
    # API servers before 1.22 serve some of the kinds also in the group extensions.
    is_own = group in (_GROUPS.get(kind, group), "extensions")
    return kind if is_own else f"{kind} ({version})"


#: Called with the error of one part of the input. The other parts are still read.
Report = Callable[[BadInputError], None]


def read(paths: Iterable[str], report: Report) -> Iterator[Document]:
    """Yield every object in files, folders (with all subfolders) and `-` (standard input).

    The items of Lists are yielded one by one. Input that can't be read, is not YAML or JSON, or is
    not a Kubernetes object is reported and skipped.
    """
    for path in paths:
        for file in ["-"] if path == "-" else _files(path, report):
            try:
                data = read_bytes(file)
            except BadInputError as error:
                report(error)
            else:
                yield from _documents(printable(str(file)), data, report)


def read_bytes(file: str | Path) -> bytes:
    """Return the content of a file, or of standard input for `-`. Raises `BadInputError`."""
    try:
        if file != "-":
            return Path(file).read_bytes()
        if sys.stdin is None:
            raise BadInputError("can't read - (standard input): it is closed")
        return sys.stdin.buffer.read()
    except OSError as error:
        raise BadInputError(f"can't read {file}: {error.strerror or error}") from None


def _files(path: str, report: Report) -> list[Path]:
    """Return the file, or every manifest in a folder, sorted. Links to folders are not followed."""
    if not path:
        report(BadInputError("-f is empty; give a file, a folder, or - for standard input"))
        return []
    # Not Path.is_dir, which raises if access is denied. read_bytes reports that error.
    if not os.path.isdir(path):
        return [Path(path)]
    unreadable: list[OSError] = []
    found = sorted(
        Path(folder, name)
        for folder, _, names in os.walk(path, onerror=unreadable.append)
        for name in names
        if name.endswith(_SUFFIXES)
    )
    for error in unreadable:
        report(BadInputError(f"can't read {error.filename}: {error.strerror}"))
    if not found and not unreadable:
        report(BadInputError(f"no {', '.join(_SUFFIXES)} file in {path}"))
    return found


def _documents(name: str, data: bytes, report: Report) -> Iterator[Document]:
    number = 0
    for line, part in _parts(data):
        try:
            for start, content in _parsed(name, part, line):
                if content is not None:
                    yield from _objects(f"{name}#{number}", start, content, report)
                number += 1
        except BadInputError as error:
            report(error)
            number += 1


def parse(name: str, data: bytes) -> Iterator[tuple[int, Any]]:
    """Yield the parsed documents of a file, each with the line on which it starts.

    Dates stay strings, as in Kubernetes. A duplicate key is an error, because parsers differ in
    which of the two values they use. Raises `BadInputError`.
    """
    for line, part in _parts(data):
        yield from _parsed(name, part, line)


#: The line between two YAML documents. Inside a document no line starts with it.
_BETWEEN = re.compile(rb"^---(?=\s|$)", re.MULTILINE)
#: Directives, comments and empty lines, which are allowed before the first document.
_PREFACE = re.compile(rb"\A(?:\xef\xbb\xbf)?(?:[ \t\r]*(?:[%#][^\n]*)?\n)*\Z")
#: The first character of the next JSON value. JSON allows only this white space before it.
_VALUE = re.compile(r"[^ \t\r\n]")


def _parts(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield each document as text, with the number of lines before it.

    They are parsed one by one, so that an invalid document does not affect the others.
    """
    starts = [0, *(match.start() for match in _BETWEEN.finditer(data))]
    if len(starts) > 1 and _PREFACE.match(data[: starts[1]]):
        del starts[1]
    line = 0
    for start, end in pairwise([*starts, len(data)]):
        part = data[start:end]
        yield line, part
        line += part.count(b"\n")


def _parsed(name: str, data: bytes, before: int) -> Iterator[tuple[int, Any]]:
    """Yield the documents in a part of a file; `before` is the number of lines before the part."""
    if data.lstrip()[:1] == b"{":
        found: list[tuple[int, Any]] = []
        text, start, end, line = "", 0, 0, 1
        try:
            text = data.decode(json.detect_encoding(data), "surrogatepass")
            while value := _VALUE.search(text, end):
                line += text.count("\n", start, value.start())
                start = value.start()
                content, end = _JSON.raw_decode(text, start)
                found.append((before + line, content))
            yield from found
            return
        except (ValueError, RecursionError) as error:
            # A YAML document can start with `{` too. But in YAML no second `{` can follow it.
            if name.endswith(".json") or (found and text[start] == "{"):
                yield from found
                line = before + getattr(error, "lineno", line)
                why = getattr(error, "msg", error)
                raise BadInputError(f"{name}:{line}: not JSON: {why}") from None
    stream = _Loader(data)
    first = f"{name}:{before + 1}"
    try:
        if _depth(data) > _DEEPEST:
            raise BadInputError(f"{first}: nested more than {_DEEPEST} levels deep")
        while stream.check_node():
            node = stream.get_node()
            assert node is not None  # noqa: S101 - check_node said that there is one
            known: dict[int, int] = {}
            if _unfolded(node, known) > _MOST_UNFOLDED > len(known):
                raise BadInputError(
                    f"{first}: its YAML aliases expand to more than {_MOST_UNFOLDED:,} nodes"
                )
            yield before + node.start_mark.line + 1, stream.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{before + mark.line + 1}:{mark.column + 1}" if mark else first
        why = f"{where}: not YAML: {error.problem or error.context}"
        if b"{{" in data:
            why += "; a chart's template is not YAML yet: review the output of helm template"
        raise BadInputError(why) from None
    except yaml.reader.ReaderError as error:
        line = before + data.count(b"\n", 0, error.position) + 1
        raise BadInputError(
            f"{name}:{line}: not YAML: {error.reason}; check that the file is text in UTF-8"
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadInputError(f"{first}: not YAML: {' '.join(str(error).split())}") from None
    finally:
        stream.dispose()


class _Loader(yaml.CSafeLoader):
    """YAML as Kubernetes reads it: dates and `=` are strings."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as the base class has it
        first: [(tag, rule) for tag, rule in rules if not tag.endswith((":timestamp", ":value"))]
        for first, rules in yaml.CSafeLoader.yaml_implicit_resolvers.items()
    }


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [key for key, _ in pairs]
        twice = next(key for key in names if names.count(key) > 1)
        raise ValueError(f"duplicate key `{shown(twice)}`")
    return made


_JSON = json.JSONDecoder(object_pairs_hook=_once)


def _depth(data: bytes) -> int:
    """Return how deep YAML nests, at most `_DEEPEST` + 1."""
    deepest = depth = 0
    for event in yaml.parse(data, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            deepest = max(deepest, depth)
            if depth > _DEEPEST:
                break
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return deepest


def _unfolded(node: yaml.Node, known: dict[int, int]) -> int:
    """Return the number of nodes with every alias expanded; `known` caches it for each node.

    Raises `ConstructorError` on a duplicate key.
    """
    if id(node) in known:
        return known[id(node)]
    # Also for a node that contains itself, which the constructor reports later.
    known[id(node)] = 1
    inner: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"duplicate key `{shown(key.value)}`", key.start_mark
                    )
                seen.add(key.value)
            inner += (key, value)
    elif isinstance(node, yaml.SequenceNode):
        inner = node.value
    known[id(node)] = 1 + sum(_unfolded(part, known) for part in inner)
    return known[id(node)]


def _objects(source: str, line: int, content: Any, report: Report) -> Iterator[Document]:
    try:
        document = _object(source, line, content)
        items = _items(document)
    except BadInputError as error:
        report(error)
        return
    if items is None:
        yield document
        return
    for index, item in enumerate(items):
        yield from _objects(f"{source}[{index}]", line, item, report)


def _object(source: str, line: int, content: Any) -> Document:
    if not isinstance(content, dict) or not isinstance(content.get("kind"), str):
        raise BadInputError(
            f"{source} (line {line}): not a Kubernetes object: the field kind is missing; check "
            "the indentation, or do not give this file"
        )
    document = Document(source, line, content)
    kind: str = content["kind"]
    proper = _KINDS.get(kind.lower(), kind)
    if kind != proper == _qualified(proper, content.get("apiVersion")):
        document.reject(f"write the kind as {proper}")
    return document


def _items(document: Document) -> list[Any] | None:
    """Return the items of a List; None for any other object."""
    kind, content = document.content["kind"], document.content
    if kind != "List" and not (kind.endswith("List") and "items" in content):
        return None
    items = content.get("items") or []
    if not isinstance(items, list):
        document.reject("the field items is not a list")
    return items


def demand_containers(document: Document) -> None:
    """Raise `BadInputError` on a pod or pod template without containers.

    The API server rejects it, and there is nothing to judge. Most likely a field is misspelled.
    """
    template = TEMPLATES[document.content["kind"]]
    path = ""
    found: Any = document.content
    for name in [*filter(None, template.split(".")), "spec", "containers"]:
        path = f"{path}.{name}".lstrip(".")
        inner = found.get(name)
        if not inner:
            near = difflib.get_close_matches(name, map(str, found), n=1, cutoff=0.7)
            is_misspelled = near and name not in found
            hint = f"; is `{shown(near[0])}` a misspelling of it?" if is_misspelled else ""
            document.reject(f"`{path}` is missing or empty: the API server would reject it{hint}")
        found = inner
