"""YAML read strictly: every error names the file, the line, the key, and the nearest known one."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.scalarbool import ScalarBoolean
from ruamel.yaml.scalarfloat import ScalarFloat
from ruamel.yaml.scalarint import ScalarInt

from tasks.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)
Location = Sequence[str | int]


def read_text(path: Path) -> str:
    """The file's text, or ConfigError that says why it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError("there is no such file", path=path) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"it is not UTF-8 text (byte {error.start})", path=path) from None
    except OSError as error:
        raise ConfigError(f"it cannot be read: {error.strerror}", path=path) from None


def parse(text: str, path: Path, *, first_line: int = 1) -> Any:
    """YAML 1.2 with positions kept. `first_line` is where `text` begins in the file. An empty text is None."""
    try:
        return YAML(typ="rt").load(StringIO(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + first_line if mark else None
        what = " ".join(str(part) for part in (error.context, error.problem) if part) or "not valid YAML"
        raise ConfigError(what, path=path, line=line, hint="mend the YAML at this line") from None
    except (YAMLError, ValueError) as error:
        raise ConfigError(f"not valid YAML: {error}", path=path, hint="mend the YAML") from None


def validate(data: Any, model: type[Model], path: Path, *, first_line: int = 1) -> Model:
    """`data` (as `parse` gave it) as `model`, or ConfigError for the first thing that is wrong with it."""
    _check_mapping(data, path, first_line)
    try:
        return model.model_validate(bare(data))
    except ValidationError as error:
        found = _explain(error, data, model, path, first_line)
        more = len(found) - 1
        if more and not found[0].hint:
            found[0].hint = f"{more} more problem{'s' if more > 1 else ''} in this file"
        raise found[0] from None


def problems(data: Any, model: type[BaseModel], path: Path, *, first_line: int = 1) -> list[ConfigError]:
    """Everything for which `validate` would refuse `data`, unknown keys first."""
    try:
        _check_mapping(data, path, first_line)
        model.model_validate(bare(data))
    except ConfigError as error:
        return [error]
    except ValidationError as error:
        return _explain(error, data, model, path, first_line)
    return []


def _check_mapping(data: Any, path: Path, first_line: int) -> None:
    if not isinstance(data, CommentedMap):
        found = "nothing" if data is None else f"a {_kind(data)}"
        raise ConfigError(f"expected a mapping of keys and values, found {found}", path=path, line=first_line)


def bare(data: Any) -> Any:
    """`data` in plain Python types: no positions, no comments."""
    if isinstance(data, CommentedMap):
        return {str(key): bare(value) for key, value in data.items()}
    if isinstance(data, CommentedSeq):
        return [bare(value) for value in data]
    if isinstance(data, ScalarBoolean):
        return bool(data)
    if isinstance(data, ScalarInt):
        return int(data)
    if isinstance(data, ScalarFloat):
        return float(data)
    return str(data) if isinstance(data, str) else data


def line_of(data: Any, location: Location, *, first_line: int = 1) -> int | None:
    """The line of `location` in `data`, or of the deepest part of it that is there."""
    line: int | None = None
    for part in location:
        if isinstance(data, CommentedMap) and part in data:
            line, data = data.lc.key(part)[0], data[part]
        elif isinstance(data, CommentedSeq) and isinstance(part, int) and part < len(data):
            line, data = data.lc.item(part)[0], data[part]
        else:
            break
    return None if line is None else line + first_line


def _explain(
    error: ValidationError, data: CommentedMap, model: type[BaseModel], path: Path, first_line: int
) -> list[ConfigError]:
    found = error.errors(include_url=False, include_context=False)
    # An unknown key is the cause more often than what it leaves missing.
    found.sort(key=lambda problem: problem["type"] != "extra_forbidden")
    # A value of several allowed shapes is refused once a shape: one answer a place is enough.
    explained: dict[tuple[str, int | None], ConfigError] = {}
    for problem in found:
        one = _explain_one(problem, data, model, path, first_line)
        explained.setdefault((one.key, one.line), one)
    return list(explained.values())


def _explain_one(
    problem: ErrorDetails, data: CommentedMap, model: type[BaseModel], path: Path, first_line: int
) -> ConfigError:
    # Pydantic names the branch of a union, validators and the like inside a location: keep what is in the file.
    location = _in_file(data, problem["loc"])
    key = ".".join(str(part) for part in location)
    line = line_of(data, location, first_line=first_line) or first_line
    if problem["type"] == "extra_forbidden":
        known = sorted(_known_keys(model, location[:-1]))
        near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
        return ConfigError("unknown key", path=path, line=line, key=key, hint=hint)
    message = problem["msg"].removeprefix("Value error, ")
    return ConfigError(message[:1].lower() + message[1:], path=path, line=line, key=key)


def _in_file(data: Any, location: Location) -> tuple[str | int, ...]:
    kept: list[str | int] = []
    for index, part in enumerate(location):
        if isinstance(data, CommentedMap):
            if part in data:
                data = data[part]
            elif index < len(location) - 1:
                continue
            kept.append(part)
        elif isinstance(data, CommentedSeq) and isinstance(part, int) and part < len(data):
            kept.append(part)
            data = data[part]
    return tuple(kept)


def _known_keys(model: type[BaseModel], location: Location) -> set[str]:
    """The keys that `model` knows at `location`; of all branches where there are several."""
    models: list[type[BaseModel]] = [model]
    for part in location:
        found = []
        for current in models:
            for name, info in current.model_fields.items():
                if part in (info.alias or name, name):
                    found += _models_in(info.annotation)
        # A list's index or a free-form key (a service's name) stays at the same models.
        models = found or models
    return {info.alias or name for current in models for name, info in current.model_fields.items()}


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models_in(inner)]


def _kind(data: Any) -> str:
    if isinstance(data, CommentedSeq):
        return "list"
    return {"str": "text", "int": "number", "float": "number", "bool": "truth value"}.get(
        type(bare(data)).__name__, type(data).__name__
    )
