"""A page's HTML: template, style, scripts and data in one string."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from ranklock.page.blocks import BigTable, Cell, Figure, Page

# A verdict's tone as a sign and a word, for eyes that colour does not reach.
TONES = {
    "good": ("✓", "Fine"),
    "bad": ("!", "Problem"),
    "mixed": ("≈", "Mixed"),
    "unknown": ("?", "Not answered"),
}

# What would end a script, or a line of one, is written as JSON's own escapes.
_IN_SCRIPT = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}


def render(page: Page) -> str:
    """One HTML file: it opens from a disk, asks no network for anything, and runs no user's text.

    Parameters
    ----------
    page
        What it shows.

    Raises
    ------
    ValueError
        If two of its parts have one id, a verdict links to no section, or a row is too short.
    """
    from plotly.offline import get_plotlyjs

    _check(page)
    behaviour, plotly = _script(_resource("page.js")), _script(get_plotlyjs())
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "embedded": _embedded, "pretty": _pretty, "shown": _shown, "payload": _payload,
        "numeric": _numeric_columns,
    }  # fmt: skip
    return environment.from_string(_resource("template.html")).render(
        page=page,
        tones=TONES,
        policy=_policy([behaviour, plotly]),
        css=Markup(_resource("page.css")),
        behaviour=Markup(behaviour),
        plotly=Markup(plotly),
    )


def plain(text: str) -> str:
    """Text as Plotly shows it literally, in labels, hover and categories.

    Plotly reads ``<b>`` and ``<a href=…>`` in any text as its own kind of HTML.

    Examples
    --------
    >>> plain("<b>A & B</b>")
    '&lt;b&gt;A &amp; B&lt;/b&gt;'
    """
    return html.escape(text, quote=False)


def _resource(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _script(source: str) -> str:
    # Browsers hash a script after they have read its line ends as \n.
    return source.replace("\r\n", "\n").replace("\r", "\n")


def _policy(scripts: Sequence[str]) -> str:
    """What the page may do: run these scripts by their hashes, and load nothing."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _check(page: Page) -> None:
    blocks = [block for section in page.sections for block in section.blocks]
    sections = [section.id for section in page.sections]
    ids = sections + [block.id for block in blocks if isinstance(block, Figure | BigTable)]
    twice = [name for name, count in Counter(ids).items() if count > 1]
    if twice:
        raise ValueError(f"Two parts of the page have the id {twice[0]!r}.")
    for verdict in page.verdicts:
        if verdict.section not in sections:
            raise ValueError(f"No section has the id {verdict.section!r} of a verdict.")
    for block in blocks:
        if block.kind in ("table", "bigtable"):
            _check_rows(block)


def _check_rows(table: Any) -> None:
    width = len(table.columns)
    if any(len(row) != width for row in table.rows):
        raise ValueError(f"A row of {table.caption!r} does not have {width} cells.")


def finite(value: Any) -> Any:
    """What JSON can hold: NaN and infinity become null, NumPy's numbers Python's."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def _embedded(value: Any) -> Markup:
    """JSON that nothing in it can turn into HTML."""
    text = json.dumps(finite(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.translate(_IN_SCRIPT))


def _pretty(value: Any) -> str:
    return json.dumps(finite(value), ensure_ascii=False, allow_nan=False, indent=2)


def _payload(table: BigTable) -> dict[str, Any]:
    return {
        "columns": [{"name": column.name, "digits": column.digits} for column in table.columns],
        "rows": [[_word(cell) for cell in row] for row in table.rows],
    }


def _word(cell: Any) -> Any:
    return ("yes" if cell else "no") if isinstance(cell, bool | np.bool_) else finite(cell)


def _shown(cell: Cell) -> str:
    """A cell of a small table."""
    cell = _word(cell)
    if cell is None:
        return "–"
    if isinstance(cell, float):
        return f"{cell:.4g}".replace("e-0", "e-").replace("e+0", "e+")
    return str(cell)


def _numeric_columns(rows: Sequence[Sequence[Cell]]) -> list[bool]:
    """Which columns hold numbers and nothing else."""
    return [
        all(not isinstance(cell, str) for cell in map(_word, column))
        for column in zip(*rows, strict=True)
    ]
