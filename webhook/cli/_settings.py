"""Reading the settings file for any command."""

from pathlib import Path

from webhook.cli import _manifests
from webhook.cli._errors import BadInputError
from webhook.policy import checks
from webhook.policy.settings import Settings, SettingsError, parse


def read_settings(path: Path | None) -> Settings:
    """The settings in a file, or the defaults; a bad file ends the command with exit code 2."""
    if path is None:
        return Settings()
    documents = [content for _, content in _manifests.parse(str(path), _manifests.read_bytes(path))]
    if len(documents) > 1:
        raise BadInputError(f"{path}: settings are one YAML document, not {len(documents)}")
    try:
        return parse(documents[0] if documents else None, checks=checks.ids())
    except SettingsError as error:
        raise BadInputError(f"{path}: {error}") from None
