"""Tests on real nodes. As a package, so that its nodes end with its last test."""
