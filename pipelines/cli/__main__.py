"""`python -m pipelines.cli` is `task-archive`."""

from pipelines.cli.main import main

main()
