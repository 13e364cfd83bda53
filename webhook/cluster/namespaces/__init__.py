"""Finds namespaces: enrolled ones, Mendix's, and those that a command selects."""
