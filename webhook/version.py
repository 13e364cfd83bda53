"""The version of what is installed."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("mendix-mesh")
except PackageNotFoundError:  # run from a checkout that is not installed
    VERSION = "0.0.0"
