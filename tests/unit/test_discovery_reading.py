"""What strangers wrote never stops discovery: it is named and skipped, bounded, and never followed out of the root."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from harness.discovery import discover, render, tree
from harness.discovery.tree import Tree
from harness.project import read_project

# Each example reads a folder: making a failing one small would take minutes.
NO_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)
words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=20)
names = st.one_of(words, st.sampled_from(["users", "client", "Web_App", "a" * 80, "-", "yes"]))
values = st.one_of(
    words,
    st.sampled_from(["http://users:80/x", "users:80", "$${url:nope}", "${PORT:-80}", "0.0.0.0:80", "x\x85y", "${A}"]),
    st.integers(0, 70_000),
    st.booleans(),
    st.none(),
)


def written(root: Path) -> str:
    """What init would write for `root`; fails unless it reads back."""
    text = render(discover(root))
    (root / "spurline.yaml").write_text(text, encoding="utf-8")
    read_project(root)
    return text


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("docker-compose.yml", "services:\n  a: [\n", "docker-compose.yml: not valid YAML (line"),
        ("docker-compose.yml", "- a\n- b\n", "docker-compose.yml: no mapping `services`"),
        ("docker-compose.yml", "services: {a: 7}\n", "docker-compose.yml: service a: not a mapping"),
        ("package.json", '{"scripts": {"start": ', "package.json: not valid JSON"),
        ("Cargo.toml", "[package\n", "Cargo.toml: not valid TOML"),
        ("go.mod", "go 1.24\n", "go.mod: no module line"),
    ],
)
def test_a_malformed_file_is_named_and_skipped(name: str, text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    (tmp_path / "Procfile").write_text("web: python app.py\n")
    found = discover(tmp_path)
    assert any(told in note for note in found.notes), found.notes
    assert [service.name for service in found.services] == ["web"]
    assert f"# Note: {name}" in written(tmp_path)


def test_odd_shapes_where_others_are_expected_do_no_harm(tmp_path: Path) -> None:
    odd: dict[str, Any] = {
        "a": {"build": 7, "ports": "80", "environment": "X=1", "command": {"x": 1}, "depends_on": 3, "healthcheck": []},
        "b": {"build": {"context": ["x"]}, "ports": [{"target": "x"}, None, 80.5], "environment": [7, {"a": 1}, "K"]},
        "c": {"build": "../elsewhere", "command": "unclosed 'quote", "env_file": {"path": "x"}, "expose": {"a": 1}},
        "d": {"image": None, "ports": ["${MISSING}:80", "1-5:1-5"], "healthcheck": {"test": {"a": 1}}},
    }
    (tmp_path / "compose.yaml").write_text(json.dumps({"services": odd}))
    (tmp_path / "package.json").write_text(json.dumps({"name": 7, "scripts": ["start"], "dependencies": "x"}))
    assert "c" in written(tmp_path)


def test_aliases_that_would_grow_without_end_stay_small(tmp_path: Path) -> None:
    layers = ["a0: &a0 {x: y}"] + [
        f"a{i}: &a{i} {{" + ", ".join(f"k{j}: *a{i - 1}" for j in range(9)) + "}" for i in range(1, 9)
    ]
    services = "services:\n  web:\n    build: .\n    environment: *a8\n    expose: [*a8]\n    command: [*a8, x]\n"
    (tmp_path / "compose.yaml").write_text("\n".join([*layers, services]))
    assert "web:" in written(tmp_path)


def test_merge_keys_and_tags_of_compose_are_understood(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(
        "x-base: &base\n  environment: {GREETING: hello}\nservices:\n  web:\n    <<: *base\n    build: .\n"
        "    command: python app.py\n    ports: !override ['8080:80']\n"
        "  web2: {build: ., expose: [1], labels: !reset null}\n"
    )
    web, _ = discover(tmp_path).services
    assert web.env["GREETING"].value == "hello"
    assert web.command.value == ("python", "app.py")


@pytest.mark.parametrize(
    ("ignore", "value"), [("*.log\n", "s3cret"), (".env\n", None), ("*.env\n", None), ("/.env*\n", None)]
)
def test_an_env_file_that_git_ignores_is_not_read(tmp_path: Path, ignore: str, value: str | None) -> None:
    (tmp_path / "compose.yaml").write_text(
        "services:\n  web:\n    build: .\n    ports: ['80']\n    command: python app.py\n"
        "    environment: {TOKEN: '${T}', PLAIN: 'a$$b', URL: '${U:-http://x}', BOTH: '${T:?}-$U2'}\n"
    )
    (tmp_path / ".env").write_text("T=s3cret\nexport U2='q'\n")
    (tmp_path / ".gitignore").write_text(ignore)
    [web] = discover(tmp_path).services
    assert (web.env["TOKEN"].value if "TOKEN" in web.env else None) == value
    assert (web.env["PLAIN"].value, web.env["URL"].value) == ("a$b", "http://x")
    assert ("BOTH" in web.env) == (value is not None)
    assert ("s3cret" in written(tmp_path)) == (value is not None)


def test_links_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "Procfile").write_text("secret: python secret.py\n")
    root = tmp_path / "root"
    root.mkdir()
    (root / "Procfile").symlink_to(outside / "Procfile")
    (root / "sub").symlink_to(outside)
    (root / "loop").symlink_to(root)
    assert Tree(root).files == ()
    assert discover(root).services == ()


def test_a_link_put_in_place_of_a_listed_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text("web: python app.py\n")
    (tmp_path / "other").write_text("api: python app.py\n")
    seen = Tree(tmp_path)
    (tmp_path / "Procfile").unlink()
    (tmp_path / "Procfile").symlink_to(tmp_path / "other")
    assert seen.text("Procfile") is None
    assert any("Procfile" in note for note in seen.notes)


def test_reads_a_bounded_number_of_bounded_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "MAX_FILES", 5)
    monkeypatch.setattr(tree, "MAX_FILE_BYTES", 100)
    for number in range(9):
        (tmp_path / f"f{number}.py").write_text("x" * 200 if number == 0 else "x")
    seen = Tree(tmp_path)
    assert len(seen.files) == 5
    assert seen.text("f0.py") is None
    assert seen.text("f1.py") == "x"
    assert "looked at the first 5 files only" in seen.notes


def test_what_is_no_text_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_bytes(b"web: \xff\xfe\n")
    (tmp_path / "app.py").write_bytes(b"\x00\xff")
    assert discover(tmp_path).services == ()


@settings(max_examples=40, deadline=None, phases=NO_SHRINKING, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(
        names,
        st.fixed_dictionaries(
            {},
            optional={
                "build": st.one_of(st.just("."), words),
                "image": words,
                "command": st.one_of(words, st.lists(values, max_size=3)),
                "environment": st.dictionaries(names, values, max_size=4),
                "ports": st.lists(st.one_of(words, st.sampled_from(["80", "8080:80", "127.0.0.1:1:2"])), max_size=2),
                "depends_on": st.lists(names, max_size=2),
                "healthcheck": st.fixed_dictionaries({"test": st.one_of(words, st.just("curl http://x/a,b}?c#d"))}),
            },
        ),
        max_size=4,
    )
)
def test_whatever_a_compose_file_holds_the_result_reads_back(services: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "compose.yaml").write_text(json.dumps({"services": services}), encoding="utf-8")
        written(Path(folder))


@settings(max_examples=40, deadline=None, phases=NO_SHRINKING)
@given(words, words)
def test_whatever_a_procfile_holds_the_result_reads_back(line: str, script: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "Procfile").write_text(f"web: {line}\nX-Y: cd {script} && {line} $PORT\n", encoding="utf-8")
        (Path(folder) / "Makefile").write_text(f"run-a:\n\t{script}\n", encoding="utf-8")
        (Path(folder) / "package.json").write_text(json.dumps({"name": line, "scripts": {"start": script}}))
        written(Path(folder))
