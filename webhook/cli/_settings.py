"""Reads the settings file for the commands."""

from pathlib import Path

from webhook.cli import _manifests
from webhook.cli._errors import BadInputError
from webhook.policy import checks, plaintext
from webhook.policy.settings import Settings, SettingsError, parse


def read_settings(path: Path | None) -> Settings:
    """Return the settings in a file, or the defaults for None.

    An invalid file ends the command with exit code 2.
    """
    if path is None:
        return Settings()
    return parse_settings(str(path), _manifests.read_bytes(path))


def parse_settings(name: str, data: bytes) -> Settings:
    """Return the settings in a YAML text. Invalid settings end the command with exit code 2.

    Chart values that contain only `settings:` are accepted too. `name` is for error messages.
    """
    documents = [content for _, content in _manifests.parse(name, data)]
    if len(documents) > 1:
        raise BadInputError(
            f"{name}: expected one YAML document with settings, found {len(documents)}"
        )
    document = documents[0] if documents else None
    if isinstance(document, dict) and document.keys() == {"settings"}:
        document = document["settings"]
    try:
        return parse(document, checks=checks.ids() | plaintext.ids())
    except SettingsError as error:
        raise BadInputError(f"{name}: {error}") from None
