"""The plan of a run: which tables it makes in which turn, and what follows of the grain of those that a table reads."""

from functools import cache

from pipelines.warehouse.grain import CLOCK, MOVING, OBSERVATIONS, grains
from pipelines.warehouse.models import PUBLISHED_LAYERS, Model, load_models


@cache
def levels() -> list[list[Model]]:
    """What is made from what a run brings, in turns: what is made whole, by task, whole from that, and so on."""
    models = load_models()
    needed: set[str] = set()
    for model in reversed(models.values()):
        if _is_made_by_run(model) or any(model.name in models[name].reads for name in needed):
            needed.add(model.name)
    level: dict[str, int] = {"problems": 1, "unknown_paths": 1}
    for model in models.values():
        if model.name in needed:
            own = int(grains()[model.name].kind == "task" or OBSERVATIONS in model.reads)
            for name in model.reads & level.keys():
                own = max(own, level[name] + (level[name] - own) % 2)
            level[model.name] = own
    turns = range(max(level.values()) + 1)
    return [[models[name] for name in level if name in models and level[name] == turn] for turn in turns]


def _is_made_by_run(model: Model) -> bool:
    """Whether a table is made by task, or from what readers do not see."""
    if model.name == MOVING:
        return False
    return grains()[model.name].kind in ("task", "load") or not all(
        name in load_models() and is_published(load_models()[name]) for name in model.reads
    )


def is_published(model: Model) -> bool:
    return model.layer in PUBLISHED_LAYERS


def by_load() -> list[Model]:
    """Internal relations whose rows are those of a part."""
    return [
        model for model in load_models().values() if not is_published(model) and grains()[model.name].kind == "load"
    ]


def moves(model: Model) -> bool:
    """Whether rows may change since time passes: those of a table by task that reads how far an account is known."""
    by_task = (load_models()[name] for name in model.reads if name in grains() and grains()[name].kind == "task")
    return CLOCK in model.reads or any(moves(other) for other in by_task)


def reads_tasks(model: Model) -> bool:
    return any(name in grains() and grains()[name].kind == "task" for name in model.reads)


def is_read_by_task(model: Model) -> bool:
    return any(model.name in other.reads and grains()[other.name].kind == "task" for other in load_models().values())
