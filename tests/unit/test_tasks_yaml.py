"""YAML read strictly: what is refused, where it is said to stand, and what the rest means."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from tasks.errors import ConfigError
from tasks.ticket import Frozen
from tasks.yamlfile import SIZE_LIMIT_BYTES, bare, line_of, parse, problems, read_text, validate
from tasks.yamlsyntax import DEPTH_LIMIT

HERE = Path("x.yaml")


class Inner(Frozen):
    colour: str = "red"
    size: int = 1


class Outer(Frozen):
    name: str
    inner: Inner = Inner()
    by_name: dict[str, Inner] = Field(default_factory=dict)
    several: tuple[Inner, ...] = ()
    either: Inner | int = 0
    renamed: int = Field(default=0, alias="json")


def read(text: str) -> Any:
    return bare(parse(text, HERE))


def refused(text: str, *, first_line: int = 1) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        validate(parse(text, HERE, first_line=first_line), Outer, HERE, first_line=first_line)
    return caught.value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("yes", "yes"),
        ("1e3", 1000.0),
        ("0o17", 15),
        ("true", True),
        ("~", None),
        ("2026-02-30", "2026-02-30"),
        ("2026-01-01T10:00:00Z", "2026-01-01T10:00:00Z"),
        ("12:30:45", "12:30:45"),
        ("=", "="),
        ("'true'", "true"),
        ("|\n  a\n  b\n", "a\nb\n"),
        ("99999999999999999999999", 99999999999999999999999),
        ("nan", "nan"),
        ("infinity", "infinity"),
    ],
)
def test_yaml_1_2_with_words_as_words(text: str, value: object) -> None:
    assert read(f"a: {text}") == {"a": value}
    assert type(read(f"a: {text}")["a"]) is type(value)


def test_numbers_as_keys_are_text_as_in_json() -> None:
    assert read("200: ok\n1.5: x") == {"200": "ok", "1.5": "x"}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\na: 2", 2, "duplicate key"),
        ("a:\n\tb: 1", 2, r"'\\t'"),
        ("a: b: c", 1, "not allowed here"),
        ("\n\na: *nothing", 3, "undefined alias"),
        ("a: &x\n  b: *x", 2, "inside of what it names"),
        ("<<: &a {<<: *a}", 1, "inside of what it names"),
        ("a: 1\n---\nb: 2", 2, "another document"),
        ("%YAML 1.1\n---\na: no", 2, "only YAML 1.2"),
        ("a: !!python/name:os.system x", 1, "tags"),
        ("a: 1\nb: !!bool x", 2, "tags"),
        ("[a]: 1", 1, "a key must be"),
        ("? {a: 1}\n: 2", 1, "a key must be"),
        ("a: 1\nnull: 1", 2, "no word"),
        ("true: 1", 1, "no word"),
        (": 1", 1, "no word"),
        ("a: .inf", 1, "no number"),
        ("a: 1e999", 1, "no number"),
        ("a: " + "9" * 5000, 1, "no number"),
        ('a: "\\ud800"', 1, "surrogate"),
        ('a: "\\0"', 1, "NUL"),
        ("a: 1\nb: \x01", 2, "U\\+0001"),
        ("a: 1\nb: 'never closed\nc: 2\nd: 3\n", 2, "quoted scalar"),
        ("a: [1,\n2", 1, "flow sequence"),
        ("a: " + "[" * (DEPTH_LIMIT + 1), 1, "nested deeper"),
    ],
)
def test_what_is_refused_says_where(text: str, line: int, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        parse(text, HERE)
    assert caught.value.line == line
    assert str(caught.value).startswith(f"x.yaml:{line}: ")
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError) as further:
        parse(text, HERE, first_line=11)
    assert further.value.line == line + 10


def test_aliases_of_aliases_are_bounded() -> None:
    laughs = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    laughs += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(ConfigError, match="more than") as caught:
        parse("\n".join(laughs), HERE)
    assert caught.value.line == 5


def test_anchors_and_merge_keys_work_in_measure() -> None:
    text = "base: &b {a: 1}\nx:\n  <<: *b\n  c: 2\nagain: *b\n"
    assert read(text) == {"base": {"a": 1}, "x": {"a": 1, "c": 2}, "again": {"a": 1}}


@pytest.mark.parametrize(
    ("text", "found"),
    [("", "nothing"), ("# only a comment\n", "nothing"), ("- a", "a list"), ("a", "a text"), ("3", "a number")],
)
def test_a_file_that_is_no_mapping(text: str, found: str) -> None:
    error = refused(text)
    assert error.line == 1
    assert error.problem == f"expected a mapping of keys and values, found {found}"


@pytest.mark.parametrize(
    ("text", "line", "key", "hint"),
    [
        ("nam: x", 1, "nam", "did you mean 'name'?"),
        ("name: x\ninner:\n  color: blue", 3, "inner.color", "did you mean 'colour'?"),
        ("name: x\nby_name:\n  a:\n    sise: 1", 4, "by_name.a.sise", "did you mean 'size'?"),
        ("name: x\nseveral:\n- size: 1\n- colour: a\n  siz: 2", 5, "several.1.siz", "did you mean 'size'?"),
        ("name: x\neither: {sized: 1}", 2, "either.sized", "did you mean 'size'?"),
        ("name: x\njso: 1", 2, "jso", "did you mean 'json'?"),
        ("name: x\ninner: {zzzzzz: 1}", 2, "inner.zzzzzz", "known keys: colour, size"),
        ("name: x\n7: 1", 2, "7", "known keys: by_name, either, inner, json, name, several"),
    ],
)
def test_unknown_keys_get_the_nearest_known_one(text: str, line: int, key: str, hint: str) -> None:
    error = refused(text)
    assert (error.line, error.key) == (line, key)
    assert error.problem == "unknown key"
    assert error.hint == hint


def test_a_key_that_a_merge_brought_in_is_found_where_it_stands() -> None:
    error = refused("name: x\nby_name:\n  a: &b\n    size: 1\n    colour: 7\n  c:\n    <<: *b\n")
    assert (error.line, error.key, error.hint) == (5, "by_name.a.colour", "put it in quotes")
    other = refused("by_name: {}\nname: x\ninner:\n  <<: &b {size: wide}\n  colour: red")
    assert (other.line, other.key) == (4, "inner.size")


def test_values_of_the_wrong_kind() -> None:
    error = refused("name: 7")
    assert (error.line, error.key, error.hint) == (1, "name", "put it in quotes")
    assert refused("name: x\ninner: {size: many}").key == "inner.size"
    assert refused("inner: {}").key == "name"
    assert refused("inner: {}").line == 1


def test_everything_that_is_wrong_can_be_listed() -> None:
    found = problems(parse("nam: x\ninner:\n  sise: 1\n  colour: 3\n", HERE), Outer, HERE)
    assert [(error.key, error.line) for error in found] == [
        ("inner.sise", 3),
        ("nam", 1),
        ("name", 1),
        ("inner.colour", 4),
    ]


def test_line_of_goes_as_deep_as_there_is_something() -> None:
    data = parse("a:\n  b:\n  - c\n  - d: 1\n", HERE)
    assert line_of(data, ("a", "b", 1, "d")) == 4
    assert line_of(data, ("a", "nothing")) == 1
    assert line_of(data, ("nothing",)) is None
    assert line_of(data, ("a", "b", 0), first_line=10) == 12


def test_files_with_marks_and_other_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: x\r\ninner:\r\n  siz: 1\r\n")
    with pytest.raises(ConfigError) as caught:
        validate(parse(read_text(path), path), Outer, path)
    assert (caught.value.line, caught.value.path) == (3, path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    with pytest.raises(ConfigError, match="no such file"):
        read_text(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_text(tmp_path)
    path.write_bytes("a: 1\nb: ü\n".encode("latin-1"))
    with pytest.raises(ConfigError, match="not UTF-8") as caught:
        read_text(path)
    assert caught.value.line == 2
    path.write_bytes(b"#" * (SIZE_LIMIT_BYTES + 1))
    with pytest.raises(ConfigError, match="larger than 1024 KiB"):
        read_text(path)


YAMLISH = st.text(alphabet="ab:1-[]{},&*!?|>'\"%@#~ \n\t<.\\e\x00é", max_size=60) | st.text(max_size=40)


@given(YAMLISH)
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert_plain(bare(parse(text, HERE)))


def assert_plain(value: object) -> None:
    if isinstance(value, dict):
        assert all(type(key) is str for key in value)
        for inner in value.values():
            assert_plain(inner)
    elif isinstance(value, list):
        for inner in value:
            assert_plain(inner)
    else:
        assert type(value) in (str, int, float, bool, type(None)), type(value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(alphabet="aß :#-'\"\n", max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3),
        max_leaves=12,
    )
)
def test_json_is_yaml(value: object) -> None:
    assert read(f"a: {json.dumps(value)}") == {"a": value}
