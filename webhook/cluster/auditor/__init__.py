"""The auditor: a loop that scans the cluster, and the pages and metrics that it serves."""
