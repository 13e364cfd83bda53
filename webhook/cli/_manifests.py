"""Kubernetes manifests from files, folders and standard input, each with where it stood."""

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

_KINDS = {kind.lower(): kind for kind in (*TEMPLATES, "Ingress", "Namespace", "List")}
_SUFFIXES = (".yaml", ".yml", ".json")
#: No manifest nests so deep, and libyaml's composer would end the process.
_DEEPEST = 300
#: More nodes than any manifest has; what aliases unfold to beyond it was made to do harm.
_MOST_UNFOLDED = 10_000_000


class Document(NamedTuple):
    """One object of the input."""

    #: File and number of the document in it, from 0: `app.yaml#1`; in a List also the item.
    source: str
    #: The line that it starts on, from 1.
    line: int
    content: dict[str, Any]

    def refuse(self, why: str) -> NoReturn:
        """Raise `BadInputError`: the object is no valid one of its kind."""
        kind = self.content["kind"]
        raise BadInputError(f"{self.source} (line {self.line}): not a valid {kind}: {why}")


#: What is done with an error in one part of the input; the other parts are read all the same.
Report = Callable[[BadInputError], None]


def read(paths: Iterable[str], report: Report) -> Iterator[Document]:
    """Yield every object in files, folders (searched whole) and `-`, Lists taken apart.

    What can't be read, is not YAML or JSON, or is no object is reported and left out.
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
    """What is in a file, or in standard input for `-`; raises `BadInputError`."""
    try:
        if file != "-":
            return Path(file).read_bytes()
        if sys.stdin is None:
            raise BadInputError("can't read -: standard input is closed")
        return sys.stdin.buffer.read()
    except OSError as error:
        raise BadInputError(f"can't read {file}: {error.strerror or error}") from None


def _files(path: str, report: Report) -> list[Path]:
    """The file itself, or every manifest in a folder, in order; links to folders are left out."""
    if not path:
        report(
            BadInputError("-f wants a file, a folder, or - for standard input, not an empty name")
        )
        return []
    # Not Path.is_dir: it raises where the path may not be looked at, which read_bytes can tell.
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
    """Yield the parsed documents of a file with the lines that they start on.

    Dates stay text, as Kubernetes has it. A key that stands twice is an error: which of the two
    holds differs from parser to parser. Raises `BadInputError`.
    """
    for line, part in _parts(data):
        yield from _parsed(name, part, line)


#: The line between two documents of YAML. No text inside a document may begin a line with it.
_BETWEEN = re.compile(rb"^---(?=\s|$)", re.MULTILINE)
#: Directives, comments and empty lines: what may stand before the first document.
_PREFACE = re.compile(rb"\A(?:\xef\xbb\xbf)?(?:[ \t\r]*(?:[%#][^\n]*)?\n)*\Z")


def _parts(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield each document as text, with the lines before it, so that one can be bad by itself."""
    starts = [0, *(match.start() for match in _BETWEEN.finditer(data))]
    if len(starts) > 1 and _PREFACE.match(data[: starts[1]]):
        del starts[1]
    line = 0
    for start, end in pairwise([*starts, len(data)]):
        part = data[start:end]
        yield line, part
        line += part.count(b"\n")


def _parsed(name: str, data: bytes, before: int) -> Iterator[tuple[int, Any]]:
    """Yield the documents in a part of a file, of which `before` lines stand before the part."""
    if data.lstrip()[:1] == b"{":
        try:
            yield before + 1, json.loads(data, object_pairs_hook=_once)
            return
        except (ValueError, RecursionError) as error:
            if name.endswith(".json"):
                line = before + getattr(error, "lineno", 1)
                why = getattr(error, "msg", error)
                raise BadInputError(f"{name}:{line}: not JSON: {why}") from None
    stream = _Loader(data)
    first = f"{name}:{before + 1}"
    try:
        if _depth(data) > _DEEPEST:
            raise BadInputError(f"{first}: nests more than {_DEEPEST} deep")
        while stream.check_node():
            node = stream.get_node()
            assert node is not None  # noqa: S101 - check_node said that there is one
            known: dict[int, int] = {}
            if _unfolded(node, known) > _MOST_UNFOLDED > len(known):
                raise BadInputError(
                    f"{first}: not YAML that can be used: its aliases unfold for ever"
                )
            yield before + node.start_mark.line + 1, stream.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{before + mark.line + 1}:{mark.column + 1}" if mark else first
        why = f"{where}: not YAML: {error.problem or error.context}"
        if b"{{" in data:
            why += "; a chart's templates are no YAML yet: give what `helm template` prints"
        raise BadInputError(why) from None
    except yaml.reader.ReaderError as error:
        line = before + data.count(b"\n", 0, error.position) + 1
        raise BadInputError(
            f"{name}:{line}: not YAML: {error.reason}; is it text, saved as UTF-8?"
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadInputError(f"{first}: not YAML: {' '.join(str(error).split())}") from None
    finally:
        stream.dispose()


class _Loader(yaml.CSafeLoader):
    """YAML as Kubernetes reads it: a date is text, and so is `=`."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as the base class has it
        first: [(tag, rule) for tag, rule in rules if not tag.endswith((":timestamp", ":value"))]
        for first, rules in yaml.CSafeLoader.yaml_implicit_resolvers.items()
    }


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [key for key, _ in pairs]
        twice = next(key for key in names if names.count(key) > 1)
        raise ValueError(f"the key `{shown(twice)}` stands twice")
    return made


def _depth(data: bytes) -> int:
    """How deep YAML nests; it is not looked any deeper than `_DEEPEST` and one."""
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
    """How many nodes there are with every alias written out; `known` gets each node's number.

    Raises `ConstructorError` on a key that stands twice.
    """
    if id(node) in known:
        return known[id(node)]
    # Also for a node that contains itself: what can't hold such a thing tells later.
    known[id(node)] = 1
    inner: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key `{shown(key.value)}` stands twice", key.start_mark
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
            f"{source} (line {line}): not a Kubernetes object: it has no kind; "
            "check the indentation, or leave the file out"
        )
    document = Document(source, line, content)
    proper = _KINDS.get(content["kind"].lower(), content["kind"])
    if content["kind"] != proper:
        document.refuse(f"Kubernetes writes this kind {proper}")
    return document


def _items(document: Document) -> list[Any] | None:
    """The items of a List; None for any other object."""
    kind, content = document.content["kind"], document.content
    if kind != "List" and not (kind.endswith("List") and "items" in content):
        return None
    items = content.get("items") or []
    if not isinstance(items, list):
        document.refuse("its items are no list")
    return items


def demand_containers(document: Document) -> None:
    """Raise `BadInputError` on a pod or pod template without any container.

    The API server refuses one, and nothing in it could be judged: most likely a misspelt field.
    """
    template = TEMPLATES[document.content["kind"]]
    path = ""
    found: Any = document.content
    for name in [*filter(None, template.split(".")), "spec", "containers"]:
        path = f"{path}.{name}".lstrip(".")
        inner = found.get(name)
        if not inner:
            near = difflib.get_close_matches(name, map(str, found), n=1, cutoff=0.7)
            hint = f"; did you mean it by `{shown(near[0])}`?" if near and name not in found else ""
            document.refuse(f"`{path}` is missing or empty: the API server would refuse it{hint}")
        found = inner
