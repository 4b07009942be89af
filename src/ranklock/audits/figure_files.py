"""Figures of an audit as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from ranklock.errors import OptionError, OutputError
from ranklock.page import Figure, plain
from ranklock.run.files import write_whole

FORMATS = ("png", "svg")
_SCALE = 2
_WIDTH = 1100
_TITLE = 90  # pixels above the panels


def check_formats(asked: Sequence[str]) -> tuple[str, ...]:
    """Formats of figures, each once; what draws them is looked for before any work is done.

    Raises
    ------
    OptionError
        When one is unknown, or what draws figures is not installed.
    """
    formats = tuple(dict.fromkeys(asked))
    if not formats:
        return ()
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise OptionError(f"--figures {unknown[0]!r} is none of {', '.join(FORMATS)}.")
    try:
        import kaleido  # noqa: F401
        from choreographer.browsers.chromium import Chromium
    except ImportError as error:
        raise OptionError(
            "--figures needs kaleido: pip install 'ranklock[figures]'. The report's own figures "
            "can be saved from the page (camera icon)."
        ) from error
    if Chromium.find_browser(skip_local=False) is None:
        raise OptionError(
            "--figures needs Chrome or Chromium, and none was found; install one, or save figures "
            "from the page (camera icon)."
        )
    return formats


def write_figures(figures: Mapping[str, Figure], folder: Path, formats: Sequence[str]) -> None:
    """Write figures into a folder, on white, under their names in ``figures``.

    Raises
    ------
    OutputError
        When a figure cannot be drawn.
    """
    import plotly.graph_objects as go

    if not formats:
        return
    folder.mkdir(exist_ok=True)
    for name, figure in figures.items():
        plot = go.Figure(figure.spec)
        title = {"text": plain(figure.title), "yref": "container", "y": 0.97, "yanchor": "top"}
        plot.update_layout(template="plotly_white", title=title, margin={"t": _TITLE})
        for kind in formats:
            path = folder / f"{name}.{kind}"
            try:
                height = figure.height + _TITLE
                image = plot.to_image(kind, width=_WIDTH, height=height, scale=_SCALE)
            except Exception as error:  # whatever a browser does
                raise OutputError(
                    f"{path} cannot be drawn ({type(error).__name__}: {error}); all else is there."
                ) from error
            write_whole(path, partial(Path.write_bytes, data=image))
