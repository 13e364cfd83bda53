"""Objects of a cluster, decoded."""
