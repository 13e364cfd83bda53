"""The loop that runs in the cluster, and what it serves."""
