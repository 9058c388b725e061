"""YAML with line numbers: documents, the line of every key, and pydantic errors that name them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from sync_platform.errors import ConfigError

if TYPE_CHECKING:
    from sync_platform.project import Place

Model = TypeVar("Model", bound=BaseModel)


def read_documents(path: Path, *, shown: str) -> Iterator[tuple[dict[str, Any], dict[str, int]]]:
    """Each document of a YAML file with the line of each of its keys (dotted paths); errors call the file `shown`."""
    text = path.read_text(encoding="utf-8")
    try:
        nodes = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
        values = list(yaml.safe_load_all(text))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise ConfigError(
            f"not valid YAML: {getattr(error, 'problem', None) or error}",
            file=shown,
            line=mark.line + 1 if mark else None,
            mend="check indentation, quotes and brackets at that line",
        ) from error
    for node, value in zip(nodes, values, strict=True):
        if not isinstance(value, dict):
            raise ConfigError("a component is a mapping with `type` and `attributes`", file=shown, line=1)
        lines = {"": node.start_mark.line + 1}
        _collect(node, "", lines)
        yield value, lines


def _collect(node: yaml.Node, path: str, lines: dict[str, int]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = f"{path}.{_text(key)}" if path else _text(key)
            lines[inner] = key.start_mark.line + 1
            _collect(value, inner, lines)
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            inner = f"{path}.{number}"
            lines[inner] = item.start_mark.line + 1
            _collect(item, inner, lines)


def _text(key: yaml.Node) -> str:
    """A key as the loaded document has it: a bare `Yes` is True there."""
    if key.tag == "tag:yaml.org,2002:bool":
        return str(yaml.SafeLoader.bool_values[key.value.lower()])
    return str(key.value)


def validated(model: type[Model], document: dict[str, Any], place: Place) -> Model:
    """The document's `attributes` as `model`; ConfigError for the first thing that is wrong."""
    try:
        return model.model_validate(document.get("attributes") or {})
    except ValidationError as error:
        first = error.errors()[0]
        blamed = first.get("ctx", {}).get("error")
        place_of: tuple[str | int, ...] = getattr(blamed, "path", first["loc"])
        path = [str(part) for part in place_of if str(part) in _known(document) or str(part).isdigit()]
        missing = first["type"] == "missing"
        name = str(place_of[-1]) if place_of else "attributes"
        said, _, mend = first["msg"].removeprefix("Value error, ").partition("; ")
        raise ConfigError(
            f"{name}: {'is required' if missing else said}",
            file=place.file,
            line=place.line(".".join(["attributes", *path])),
            field=".".join(map(str, place_of)),
            value=None if missing else getattr(blamed, "value", first.get("input")),
            mend=mend or _mend(model, first),
        ) from error


def _known(value: Any) -> set[str]:
    if isinstance(value, dict):
        return {str(key) for key in value} | {name for inner in value.values() for name in _known(inner)}
    if isinstance(value, list):
        return {name for inner in value for name in _known(inner)}
    return set()


def _mend(model: type[BaseModel], error: Any) -> str:
    import difflib

    if error["type"] == "extra_forbidden":
        name = str(error["loc"][-1])
        near = difflib.get_close_matches(name, list(model.model_fields), n=1)
        return f"remove {name!r}" + (f" or write {near[0]!r}" if near else "")
    if error["type"] == "missing":
        return f"add {error['loc'][-1]!s}"
    expected = error.get("ctx", {}).get("expected")
    return f"write {expected}" if expected else "see docs/sync.md"
