"""What a page is made of. All text is plain text: it is shown as it is and never as HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

Cell: TypeAlias = str | float | int | None


@dataclass(frozen=True)
class Paragraph:
    """Running text."""

    kind: ClassVar[str] = "paragraph"
    text: str


@dataclass(frozen=True)
class Formula:
    """A formula in Unicode, line breaks kept."""

    kind: ClassVar[str] = "formula"
    text: str


@dataclass(frozen=True)
class Figure:
    """A figure that Plotly draws.

    ``spec`` is ``data`` and ``layout`` of Plotly's JSON; numbers may be NaN. The page sets fonts,
    grid and background for its two themes; what the layout sets itself stays. Users' text in it
    goes through :func:`~ranklock.page.render.plain`. Traces of WebGL (``scattergl``) need ``eval``,
    which the page forbids.
    """

    kind: ClassVar[str] = "figure"
    id: str  # in HTML, and the name of the PNG that readers save
    title: str
    see: str  # what to see in it
    spec: Mapping[str, Any]
    height: int = 420  # in CSS pixels


@dataclass(frozen=True)
class Table:
    """A small table, there without JavaScript; floats are shown with four digits."""

    kind: ClassVar[str] = "table"
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Column:
    """A column of a :class:`BigTable`."""

    name: str
    help: str = ""  # what it holds, as a tooltip and for screen readers
    digits: int | None = None  # significant ones shown of numbers; None shows them whole


@dataclass(frozen=True)
class BigTable:
    """A long table that sorts, filters, pages and downloads in the browser."""

    kind: ClassVar[str] = "bigtable"
    id: str  # in HTML, and the name of the CSV that readers save
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Json:
    """A record such as a run's manifest, folded until it is asked for."""

    kind: ClassVar[str] = "json"
    caption: str
    value: Mapping[str, Any]


Block: TypeAlias = Paragraph | Formula | Figure | Table | BigTable | Json


@dataclass(frozen=True)
class Section:
    """One question's evidence under its answer."""

    id: str  # in HTML; verdicts link to it
    title: str
    answer: str  # in a sentence
    blocks: Sequence[Block]
    answered: bool = True  # whether the question could be


@dataclass(frozen=True)
class Verdict:
    """One question's answer in the box at the top."""

    section: str  # id of the one with the evidence
    question: str
    answer: str  # in a sentence
    number: str  # that it rests on, such as 0.99; may be empty
    tone: str  # good, bad, mixed or unknown


@dataclass(frozen=True)
class Page:
    """The whole report: advice and verdicts first, then paragraphs that lead into the sections."""

    title: str
    subtitle: str
    verdicts: Sequence[Verdict]
    lead: Sequence[str]
    sections: Sequence[Section]
    footer: Sequence[str]
    advice: str = ""  # the first line: what a reader should do
