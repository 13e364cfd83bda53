"""Tests of real traffic. As a package, so that its cluster ends with its last test."""
