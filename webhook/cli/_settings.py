"""Reading the settings file for any command."""

from pathlib import Path

import yaml

from webhook.cli._errors import BadInputError
from webhook.policy import checks
from webhook.policy.settings import Settings, SettingsError, parse


def read_settings(path: Path | None) -> Settings:
    """The settings in a file, or the defaults; a bad file ends the command with exit code 2."""
    if path is None:
        return Settings()
    try:
        return parse(yaml.safe_load(path.read_bytes()), checks=checks.ids())
    except OSError as error:
        raise BadInputError(f"can't read {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path} is not YAML: {error}") from None
    except SettingsError as error:
        raise BadInputError(f"{path}: {error}") from None
