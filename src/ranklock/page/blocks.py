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

    Attributes
    ----------
    id
        Its HTML id, and the name of the PNG that readers save.
    title
        Heading above it.
    see
        Sentence that says what to see in it.
    spec
        ``data`` and ``layout`` of Plotly's JSON; numbers may be NaN. The page sets fonts, grid and
        background for its two themes; what the layout sets itself stays. Users' text in it goes
        through :func:`~ranklock.page.render.plain`. Traces of WebGL (``scattergl``) need
        ``eval``, which the page forbids.
    height
        In CSS pixels.
    """

    kind: ClassVar[str] = "figure"
    id: str
    title: str
    see: str
    spec: Mapping[str, Any]
    height: int = 420


@dataclass(frozen=True)
class Table:
    """A small table, there without JavaScript; floats are shown with four digits."""

    kind: ClassVar[str] = "table"
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Column:
    """A column of a :class:`BigTable`.

    Attributes
    ----------
    name
        Its heading.
    help
        What it holds, as a tooltip and for screen readers.
    digits
        Significant digits shown of numbers; None shows them whole.
    """

    name: str
    help: str = ""
    digits: int | None = None


@dataclass(frozen=True)
class BigTable:
    """A long table that sorts, filters, pages and downloads in the browser.

    Attributes
    ----------
    id
        Its HTML id, and the name of the CSV that readers save.
    caption
        Heading above it.
    columns
        Its columns.
    rows
        As many cells a row as there are columns.
    """

    kind: ClassVar[str] = "bigtable"
    id: str
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
    """One question's evidence under its answer.

    Attributes
    ----------
    id
        Its HTML id, to which verdicts link.
    title
        Its heading.
    answer
        The answer in a sentence.
    blocks
        What the answer rests on.
    answered
        Whether the question could be answered.
    """

    id: str
    title: str
    answer: str
    blocks: Sequence[Block]
    answered: bool = True


@dataclass(frozen=True)
class Verdict:
    """One question's answer in the box at the top.

    Attributes
    ----------
    section
        Id of the section with the evidence.
    question
        The question.
    answer
        The answer in a sentence.
    number
        The number it rests on, such as ``0.99``; may be empty.
    tone
        ``good``, ``bad``, ``mixed`` or ``unknown``.
    """

    section: str
    question: str
    answer: str
    number: str
    tone: str


@dataclass(frozen=True)
class Page:
    """The whole report: verdicts first, then paragraphs that lead into the sections."""

    title: str
    subtitle: str
    verdicts: Sequence[Verdict]
    lead: Sequence[str]
    sections: Sequence[Section]
    footer: Sequence[str]
