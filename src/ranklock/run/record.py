"""Typed records that are written as JSON into a folder of work, and read back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, Self

import cattrs

from ranklock.errors import OutputError
from ranklock.run.work import read_work


class Record:
    """Base of manifests: frozen dataclasses with a field ``version``.

    Attributes
    ----------
    KIND
        Kind of work, as of :func:`ranklock.run.work.work_folder`.
    VERSION
        Of the record and of the files beside it; a folder is read by the version that wrote it.
    CALLED
        What the folder holds, in words.
    """

    KIND: ClassVar[str]
    VERSION: ClassVar[int]
    CALLED: ClassVar[str]

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON, which has no NaN."""
        plain: dict[str, Any] = _converter.unstructure(self)
        return plain

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The record that was written.

        Raises
        ------
        ValueError
            When it is not one of this version.
        """
        if content.get("version") != cls.VERSION:
            raise ValueError(f"version {content.get('version')}")
        names = (f.name for f in fields(cls))  # type: ignore[arg-type]
        known = {name: content[name] for name in names if name in content}
        record: Self = _converter.structure(known, cls)
        return record

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The record of a folder.

        Raises
        ------
        OutputError
            When there is none, or it was written by another version.
        """
        content = read_work(folder, cls.KIND)
        if content is None:
            raise OutputError(
                f"{folder} holds no {cls.CALLED} of Ranklock (its manifest is missing, damaged or "
                "of another kind of results)."
            )
        try:
            return cls.from_json(content)
        except Exception as error:  # cattrs raises groups of whatever was wrong
            raise OutputError(
                f"{folder} was written by another version of Ranklock ({content.get('version')}, "
                f"not {cls.VERSION}), or its manifest is damaged; read it with that version, or "
                "run the command again."
            ) from error


_converter = cattrs.Converter()
_converter.register_unstructure_hook(float, lambda x: x if math.isfinite(x) else None)
_converter.register_structure_hook(float, lambda x, _: math.nan if x is None else float(x))
