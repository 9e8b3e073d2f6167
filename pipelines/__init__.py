"""Task Archive: the task history of a Livepeer Studio account, kept whole and answerable in SQL."""

from importlib.metadata import version

__version__ = version("livepeer-task-archive")
