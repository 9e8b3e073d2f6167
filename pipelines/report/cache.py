"""What the report needs and takes long to make: Vega's JavaScript and the charts. Made once, and kept.

It depends on this program and its libraries alone, so it is kept in the user's cache folder, whatever the archive.
"""

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import msgspec

from pipelines.report.figures import sections


def vega() -> str:
    """vega-embed with Vega and Vega-Lite, minified, safe inside a <script>. Bundling takes vl-convert over 2 s."""
    return _kept(f"vega-{version('vl-convert-python')}.js", _bundle)


def specs() -> dict[str, str]:
    """The charts of the report in Vega-Lite, as JSON. Altair alone takes half a second to import."""
    source = hashlib.sha256()
    for module in ("charts.py", "formatting.py"):
        source.update(Path(__file__).with_name(module).read_bytes())
    for section in sections():
        source.update(msgspec.json.encode([(query.name, query.header.charts) for query in section.queries]))
    name = f"charts-{version('altair')}-{source.hexdigest()[:16]}.json"
    found: dict[str, str] = json.loads(_kept(name, _draw))
    return found


def _bundle() -> str:
    import vl_convert

    # Neither may stand in a script, where the first ends it; within strings and regular expressions both forms are one.
    bundled = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed").replace("</script", "<\\/script")
    return bundled.replace("<!--", "<\\!--")


def _draw() -> str:
    from pipelines.report.charts import as_dict, drawings

    return json.dumps({name: json.dumps(as_dict(drawing), separators=(",", ":")) for name, drawing in drawings()})


def _kept(name: str, make: Callable[[], str]) -> str:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "task-archive"
    with suppress(OSError):
        return (folder / name).read_text(encoding="utf-8")
    made = make()
    with suppress(OSError):  # read-only or full: made again the next time
        folder.mkdir(parents=True, exist_ok=True)
        fresh = folder / f".{name}.{os.getpid()}"
        fresh.write_text(made, encoding="utf-8")
        fresh.replace(folder / name)
    return made
