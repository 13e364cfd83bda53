"""What is in a cluster, decoded."""
