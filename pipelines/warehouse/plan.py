"""The plan of a run: which tables it makes in which turn, and what follows of the grain of those that a table reads."""

from collections.abc import Iterable
from functools import cache

from pipelines.warehouse.grain import CLOCK, GIVEN, MOVING, OBSERVATIONS, grains
from pipelines.warehouse.models import PUBLISHED_LAYERS, Model, load_models

SEED = "sql/seeds/signature_owners.csv"


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


def made_again(changed: Iterable[str]) -> set[str] | None:
    """The tables to make again, from the others, where these files of sql/ have changed, come or gone; None where that
    takes what has landed, or where something else has changed."""
    models, names = load_models(), set[str]()
    for what in changed:
        folder, _, file = what.removeprefix("sql/").partition("/")
        if what == SEED:
            names.add("signature_owners")
        elif folder in PUBLISHED_LAYERS:
            names.add(file.removesuffix(".sql"))
        elif folder != "macros":  # which each run creates, and no table uses
            return None
    for model in models.values():
        if model.reads & names:
            names.add(model.name)
    can_be_read = {model.name for model in models.values() if is_published(model)} | GIVEN
    for model in (models[name] for name in names & models.keys()):
        if not is_published(model) or grains()[model.name].kind == "load" or not model.reads <= can_be_read:
            return None
    return names


def is_published(model: Model) -> bool:
    return model.layer in PUBLISHED_LAYERS


def is_stored(model: Model) -> bool:
    """Whether the working file keeps it from run to run."""
    return is_published(model) or grains()[model.name].kind == "load"


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
