"""What is wrong with settings, in words: for the command line and for pages."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel


def wrong(error: Mapping[str, Any], model: type[BaseModel]) -> str:
    """Say in words what is wrong with one field: its name, what was expected, what was found.

    Args:
        error: one entry of ``ValidationError.errors()``.
        model: the model that was to be filled; its field names are offered for a misspelt one.
    """
    path = [str(part) for part in error["loc"]]
    name = ".".join(path) or "the value"
    if error["type"] == "extra_forbidden":
        known = ", ".join(_fields(model, path[:-1]))
        return f"{name} is not a setting; known here: {known}"
    if error["type"] == "missing":
        return f"{name} is missing"
    message = str(error["msg"])
    expected = message[0].lower() + message[1:]
    return f"{name}: {expected}, found {error['input']!r}"


def _fields(model: type[BaseModel], path: list[str]) -> list[str]:
    for part in path:
        field = model.model_fields.get(part)
        if field is None or not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel):
            break
        model = field.annotation
    return list(model.model_fields)
