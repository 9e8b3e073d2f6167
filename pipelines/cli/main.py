"""The `task-archive` command with all of its commands."""

from pipelines.cli import ingest, operate, read
from pipelines.cli.group import main

__all__ = ["ingest", "main", "operate", "read"]
