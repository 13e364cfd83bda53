"""Kubernetes manifests from files, folders and standard input, each with where it stood."""

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from webhook.cli._errors import BadInputError

_SUFFIXES = (".yaml", ".yml", ".json")


class Document(NamedTuple):
    """One object of the input."""

    #: File and number of the document in it, from 0: `app.yaml#1`; in a List also the item.
    source: str
    #: The line that it starts on, from 1.
    line: int
    content: dict[str, Any]


def read(paths: Iterable[str]) -> Iterator[Document]:
    """Every object in files, folders (searched whole) and `-`, Lists taken apart.

    Raises `BadInputError` for what can't be read, is not YAML or JSON, or is no object.
    """
    for path in paths:
        if path == "-":
            yield from _documents("-", sys.stdin.buffer.read())
            continue
        for file in _files(Path(path)):
            try:
                data = file.read_bytes()
            except OSError as error:
                raise BadInputError(f"can't read {file}: {error.strerror}") from None
            yield from _documents(str(file), data)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(p for p in path.rglob("*") if p.suffix in _SUFFIXES and p.is_file())
    if not found:
        raise BadInputError(f"no {', '.join(_SUFFIXES)} file in {path}")
    return found


def _documents(name: str, data: bytes) -> Iterator[Document]:
    for number, (line, content) in enumerate(parse(name, data)):
        if content is not None:
            yield from _objects(f"{name}#{number}", line, content)


def parse(
    name: str, data: bytes, *, loader: type[yaml.CSafeLoader] = yaml.CSafeLoader
) -> Iterator[tuple[int, Any]]:
    """The parsed documents of a file with the lines that they start on; raises `BadInputError`."""
    if data.lstrip()[:1] == b"{":
        try:
            yield 1, json.loads(data)
            return
        except (ValueError, RecursionError) as error:
            if name.endswith(".json"):
                where = f"{name}:{getattr(error, 'lineno', 1)}"
                raise BadInputError(f"{where}: not JSON: {getattr(error, 'msg', error)}") from None
    stream = loader(data)
    try:
        while stream.check_node():
            node = stream.get_node()
            assert node is not None  # noqa: S101 - check_node said that there is one
            yield node.start_mark.line + 1, stream.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise BadInputError(f"{where}: not YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadInputError(f"{name}: not YAML: {' '.join(str(error).split())}") from None
    finally:
        stream.dispose()


def _objects(source: str, line: int, content: Any) -> Iterator[Document]:
    if not isinstance(content, dict) or not isinstance(content.get("kind"), str):
        raise BadInputError(
            f"{source} (line {line}): not a Kubernetes object: it has no kind; "
            "check the indentation, or leave the file out"
        )
    if content["kind"] == "List" or (content["kind"].endswith("List") and "items" in content):
        for index, item in enumerate(content.get("items") or ()):
            yield from _objects(f"{source}[{index}]", line, item)
    else:
        yield Document(source, line, content)
