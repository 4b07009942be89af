"""Groups of options: a dataclass as one parameter of a command, spelt out for Typer."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from functools import wraps
from typing import Any, get_type_hints


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Give Typer each field of a command's groups of options as an option of its own.

    Parameters
    ----------
    command
        A command. A parameter whose type is a dataclass is a group: its fields are annotated as
        options, and the command is given the dataclass.
    """
    parameters: list[inspect.Parameter] = []
    groups: dict[str, type[Any]] = {}
    hints = get_type_hints(command, include_extras=True)
    for name, parameter in inspect.signature(command).parameters.items():
        if not is_dataclass(hints[name]):
            parameters.append(
                parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[name])
            )
            continue
        group = groups[name] = hints[name]
        types = get_type_hints(group, include_extras=True)
        for member in fields(group):
            default = inspect.Parameter.empty if member.default is MISSING else member.default
            parameters.append(
                inspect.Parameter(
                    member.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=default,
                    annotation=types[member.name],
                )
            )

    @wraps(command)
    def spelt_out(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(
                **{member.name: values.pop(member.name) for member in fields(group)}
            )
        command(**values)

    spelt_out.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    spelt_out.__annotations__ = {p.name: p.annotation for p in parameters}
    del spelt_out.__wrapped__  # which Typer would look at instead
    return spelt_out
