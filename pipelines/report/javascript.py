"""Vega's JavaScript, which draws the charts in the page: out of vl-convert, made once and kept."""

import os
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path


def vega() -> str:
    """vega-embed with Vega and Vega-Lite, minified, safe inside a <script>.

    Bundling takes vl-convert over 2 s, so it is kept in the user's cache folder, by vl-convert's version.
    """
    with suppress(OSError):
        return _kept().read_text()
    import vl_convert

    # Neither may stand in a script, where the first ends it; within strings and regular expressions both forms are one.
    bundled = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed").replace("</script", "<\\/script")
    bundled = bundled.replace("<!--", "<\\!--")
    with suppress(OSError):  # read-only or full: made again the next time
        _kept().parent.mkdir(parents=True, exist_ok=True)
        fresh = _kept().with_name(f".{_kept().name}.{os.getpid()}")
        fresh.write_text(bundled)
        fresh.replace(_kept())
    return bundled


def _kept() -> Path:
    folder = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(folder) / "task-archive" / f"vega-{version('vl-convert-python')}.js"
