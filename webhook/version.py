"""The version of mendix-mesh. The package, the chart and the image have the same one."""

VERSION = "0.1.0"
