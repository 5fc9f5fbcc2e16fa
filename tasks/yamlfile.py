"""YAML read strictly: every error names the file, the line, the key, and the nearest known one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.scalarbool import ScalarBoolean
from ruamel.yaml.scalarfloat import ScalarFloat
from ruamel.yaml.scalarint import ScalarInt

from tasks.errors import ConfigError
from tasks.yamlsyntax import load

SIZE_LIMIT_BYTES: Final = 1024 * 1024
"""More than any file that a person wrote; reading it would only take long."""

Model = TypeVar("Model", bound=BaseModel)
Location = Sequence[str | int]


def read_text(path: Path) -> str:
    """The file's text without its byte order mark, or ConfigError that says why it cannot be read."""
    try:
        with path.open("rb") as file:
            data = file.read(SIZE_LIMIT_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError("there is no such file", path=path) from None
    except OSError as error:
        raise ConfigError(f"it cannot be read: {error.strerror}", path=path) from None
    if len(data) > SIZE_LIMIT_BYTES:
        raise ConfigError(f"it is larger than {SIZE_LIMIT_BYTES // 1024} KiB", path=path)
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError("it is not UTF-8 text", path=path, line=line, hint="save it as UTF-8") from None


def parse(text: str, path: Path, *, first_line: int = 1) -> Any:
    """YAML 1.2 with positions kept. `first_line` is where `text` begins in the file. An empty text is None."""
    try:
        return load(text)
    except MarkedYAMLError as error:
        # What is never closed is noticed at the end of the file: the place where it was opened helps more.
        at_end = any(words in (error.problem or "") for words in ("end of stream", "<stream end>"))
        mark = (error.context_mark if at_end else None) or error.problem_mark or error.context_mark
        line = mark.line + first_line if mark else None
        what = " ".join(str(part) for part in (error.context, error.problem) if part) or "not valid YAML"
        hint = error.note or "mend the YAML at this line"
        raise ConfigError(what, path=path, line=line, hint=hint) from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + first_line
        raise ConfigError(f"the character U+{error.character:04X} is not allowed", path=path, line=line) from None
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


def nearest(word: str, known: Iterable[str], what: str) -> str:
    """A hint: the known word that `word` may have been meant for, else all of them, introduced by `what`."""
    names = list(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"{what}: {', '.join(names)}"


def wrapped(data: CommentedSeq, key: str) -> CommentedMap:
    """A mapping with `data` under its one key, positions kept: for files that hold a list where others a mapping."""
    mapping = CommentedMap({key: data})
    mapping.lc.add_kv_line_col(key, [data.lc.line, 0, data.lc.line, 0])
    return mapping


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
        if isinstance(data, CommentedMap) and (key := _own_key(data, part)) is not None:
            line, data = _key_line(data, key, line), data[key]
        elif isinstance(data, CommentedSeq) and isinstance(part, int) and part < len(data):
            line, data = data.lc.item(part)[0], data[part]
        else:
            break
    return None if line is None else line + first_line


def _own_key(data: CommentedMap, part: str | int) -> str | int | None:
    """The key of `data` that `bare` calls `part`, None where there is none."""
    if part in data:
        return part
    return next((key for key in data if str(key) == part), None)


def _key_line(data: CommentedMap, key: str | int, otherwise: int | None) -> int | None:
    """Where `key` stands: in the mapping itself, or in one that a merge key (`<<`) brought in."""
    for mapping in (data, *data.merge):
        if mapping.lc.data is not None and key in mapping.lc.data:
            line: int = mapping.lc.key(key)[0]
            return line
    return otherwise


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
        hint = nearest(str(location[-1]), known, "known keys")
        return ConfigError("unknown key", path=path, line=line, key=key, hint=hint)
    message = problem["msg"].removeprefix("Value error, ")
    hint = "put it in quotes" if problem["type"] == "string_type" and isinstance(problem["input"], int | float) else ""
    return ConfigError(message[:1].lower() + message[1:], path=path, line=line, key=key, hint=hint)


def _in_file(data: Any, location: Location) -> tuple[str | int, ...]:
    kept: list[str | int] = []
    for index, part in enumerate(location):
        if isinstance(data, CommentedMap):
            if (own := _own_key(data, part)) is not None:
                data = data[own]
            elif part == "[key]" or index < len(location) - 1:
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
