"""The reference of commands, settings, tables and alerts as Markdown: from click, Settings and the .sql files."""

from collections.abc import Iterable
from typing import Any

import click
from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from pipelines.alerts.conditions import load_conditions
from pipelines.serving.published import named_queries
from pipelines.settings import KEY_VARIABLE, WEBHOOK_VARIABLE, Settings, environment_variable
from pipelines.warehouse.models import PUBLISHED_LAYERS, load_macros, published_models

COMMANDS_OPENING = """# Commands

Generated from the program by `make docs`; do not edit. `task-archive COMMAND --help` prints the same.

| exit status | meaning |
| --- | --- |
| 0 | The command succeeded; after `sync`, the proof is whole. |
| 1 | The command failed. Readers stay on the version before, unless the message says that the tables are published. |
| 2 | A setting or an argument is wrong. |
| 3 | The command finished, but found a gap, a difference or an active alert, which it prints. |
| 129, 130, 143 | The command was stopped by SIGHUP, Ctrl-C or SIGTERM. |
"""

SETTINGS_OPENING = """# Settings

Generated from the program by `make docs`; do not edit. Settings come from environment variables, then from a `.env`
file in the working directory. `task-archive doctor` prints them with secrets masked.

| variable | default | meaning |
| --- | --- | --- |
"""

TABLES_OPENING = """# Tables

Generated from `sql/` by `make docs`; do not edit. [data_dictionary.md](data_dictionary.md) describes every column and
[er.md](er.md) draws the references.
"""

ALERTS_OPENING = """# Alert conditions

Generated from `sql/alerts/` by `make docs`; do not edit. How alerts are sent: [operations.md](operations.md#alerts).

"""

LAYERS = {
    "core": "Core: tasks, their child rows, and what was loaded",
    "history": "History: what the API overwrites",
    "marts": "Marts: facts, dimensions and metrics",
}


def commands(group: click.Group) -> str:
    """Every command with its arguments and options."""
    return COMMANDS_OPENING + "".join(_command(f"task-archive {name}", each) for name, each in _sorted(group))


def _sorted(group: click.Group) -> list[tuple[str, click.Command]]:
    context = click.Context(group)
    named = ((name, group.get_command(context, name)) for name in sorted(group.list_commands(context)))
    return [(name, command) for name, command in named if command is not None]


def _command(name: str, command: click.Command) -> str:
    """One command, or a group and its commands."""
    about = " ".join((command.help or "").replace("\b", "").split())
    if isinstance(command, click.Group):
        return "".join(_command(f"{name} {inner}", each) for inner, each in _sorted(command))
    context = click.Context(command, info_name=name)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    lines = [f"\n## {name}", "", about, "", f"    {usage}"]
    options = [record for param in command.params if (record := param.get_help_record(context))]
    if options:
        lines += ["", "| option | meaning |", "| --- | --- |"]
        lines += [f"| `{_cell(option)}` | {_cell(meaning)} |" for option, meaning in options]
    if command.epilog:
        lines += ["", f"Example: `{command.epilog.splitlines()[-1].strip()}`"]
    return "\n".join(lines) + "\n"


def settings() -> str:
    """Every setting with its environment variable, default and meaning."""
    rows = [
        (f"`{KEY_VARIABLE}`", "", "API key of the account `default`"),
        (f"`{KEY_VARIABLE}__<ACCOUNT>`", "", "API keys of further accounts or projects, each with a name you choose"),
        (f"`{WEBHOOK_VARIABLE}`", "", "shared secret of the webhook of the account `default`; `__<ACCOUNT>` as above"),
    ]
    for name, field in Settings.model_fields.items():
        if not field.exclude:
            default = field.get_default(call_default_factory=True, validated_data={})
            rows.append((f"`{environment_variable(name)}`", _default(name, default), str(field.description)))
    return SETTINGS_OPENING + "".join(f"| {' | '.join(_cell(part) for part in row)} |\n" for row in rows)


def _default(name: str, value: Any) -> str:
    if name == "home":
        return "`archive`"
    if value is None or value is PydanticUndefined or isinstance(value, SecretStr):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def tables() -> str:
    """Every published table, its key and its meaning, by layer; the macros; the named queries."""
    sections = [TABLES_OPENING]
    for layer in PUBLISHED_LAYERS:
        models = sorted((model for model in published_models() if model.layer == layer), key=lambda each: each.name)
        rows = ((model.name, ", ".join(model.key), model.description) for model in models)
        sections.append(f"## {LAYERS[layer]}\n\n{_table(('table', 'key', 'holds'), rows)}")
    macros = ((f"{each.name}({', '.join(each.header.parameters)})", each.header.description) for each in load_macros())
    sections.append(f"## Macros\n\n{_table(('macro', 'gives'), macros)}")
    queries = _table(("query", "answers"), named_queries().items())
    sections.append(f"## Named queries\n\nRun one with `task-archive query NAME`.\n\n{queries}")
    return "\n".join(sections)


def alerts() -> str:
    """Every alert condition with its severity and meaning."""
    rows = [("run_failed", "alarm", "The last run of a job failed, and no nightly one went well since.")]
    rows += [(each.name, each.header.severity, each.header.description) for each in load_conditions()]
    return ALERTS_OPENING + _table(("condition", "severity", "raised when"), rows)


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    header = list(header)
    lines = [header, ["---"] * len(header), *([f"`{name}`", *map(_cell, rest)] for name, *rest in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
