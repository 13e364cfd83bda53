"""Reading the settings file for any command."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from webhook.cli import _manifests
from webhook.cli._errors import BadInputError
from webhook.policy import checks
from webhook.policy.settings import Settings, SettingsError, parse


def read_settings(path: Path | None) -> Settings:
    """The settings in a file, or the defaults; a bad file ends the command with exit code 2."""
    if path is None:
        return Settings()
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInputError(f"can't read {path}: {error.strerror}") from None
    documents = [content for _, content in _manifests.parse(str(path), data, loader=_Loader)]
    if len(documents) > 1:
        raise BadInputError(f"{path}: settings are one YAML document, not {len(documents)}")
    try:
        return parse(documents[0] if documents else None, checks=checks.ids())
    except SettingsError as error:
        raise BadInputError(f"{path}: {error}") from None


class _Loader(yaml.CSafeLoader):
    """Refuses a key that stands twice: the first would be dropped in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A mapping; raises `ConstructorError` on a key that stands twice."""
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key `{key.value}` stands twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)
