"""Where tables lie while they are made: in the working file, published or not, or in the run alone."""

from pipelines.warehouse.grain import grains
from pipelines.warehouse.models import Model
from pipelines.warehouse.plan import is_published, is_stored
from pipelines.warehouse.working import INTERNAL, TABLES


def groups_of(model: Model) -> str:
    """The table of this run that holds the groups which rows of tasks at hand were counted in, or are."""
    return f"groups_of_{model.name}"


def columns_of_groups(model: Model) -> str:
    """The columns of a table that other tables group its rows by."""
    groups = (grain for grain in grains().values() if grain.kind == "group" and grain.source == model.name)
    return ", ".join(sorted({column for group in groups for way in group.columns for column in way}))


def temp_or_not(model: Model) -> str:
    return "" if is_stored(model) else "temp "


def place_of(model: Model) -> str:
    """Where a table lies: published, internal but kept, or of this run alone."""
    if is_published(model):
        return f"{TABLES}.main.{model.name}"
    return f"{TABLES}.{INTERNAL}.{model.name}" if grains()[model.name].kind == "load" else f"temp.{model.name}"
