"""Pods, decoded, and the meaning of their parts."""
