"""The report as one HTML file that needs nothing else, not even a network."""

from ranklock.page.blocks import (
    BigTable,
    Block,
    Cell,
    Column,
    Figure,
    Formula,
    Json,
    Page,
    Paragraph,
    Section,
    Table,
    Verdict,
)
from ranklock.page.render import plain, render

__all__ = [
    "BigTable",
    "Block",
    "Cell",
    "Column",
    "Figure",
    "Formula",
    "Json",
    "Page",
    "Paragraph",
    "Section",
    "Table",
    "Verdict",
    "plain",
    "render",
]
