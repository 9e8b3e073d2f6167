"""Databases that a version is published to as well."""
