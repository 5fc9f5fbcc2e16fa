"""Rust and Java: what their manifests alone say. Cargo workspaces and Maven modules of Spring Boot."""

from __future__ import annotations

import posixpath
import re
import tomllib
from typing import Any

from harness.discovery.findings import Program, Sourced
from harness.discovery.tree import Tree, line_of

_LISTENS_RUST = re.compile(
    r"TcpListener|HttpServer::new|axum::serve|axum::Server|warp::serve|rocket::|Server::builder\("
)
_GRPC_RUST = re.compile(r"\btonic::transport::Server|Server::builder\(\)[\s\S]{0,400}?\.add_service\(")
_TAG = r"<{0}>\s*([^<\s]+)\s*</{0}>"


def cargo_programs(tree: Tree) -> list[Program]:
    """The Cargo packages with a `src/main.rs` that may listen."""
    found = []
    for path in tree.matching("Cargo.toml"):
        folder = posixpath.dirname(path) or "."
        main = posixpath.normpath(f"{folder}/src/main.rs")
        data = _toml(tree, path)
        package = data.get("package") if data else None
        if data is None or not isinstance(package, dict) or not tree.has(main):
            continue
        name = str(package.get("name") or posixpath.basename(folder))
        code = tuple(tree.below(posixpath.normpath(f"{folder}/src"), ".rs"))
        texts = {p: tree.text(p) or "" for p in code}
        grpc = next((f"{p}:{line_of(t, m.start())}" for p, t in texts.items() if (m := _GRPC_RUST.search(t))), None)
        found.append(
            Program(
                name=name,
                cwd=folder,
                language="rust",
                source=path,
                # A target folder of its own: in a workspace it would otherwise lie at the root.
                build=Sourced(f"cargo build --quiet --bin {name} --target-dir target", path),
                command=Sourced((f"./target/debug/{name}",), "what `build` makes"),
                shared=tuple(_cargo_shared(tree, folder, data)),
                grpc=grpc,
                listens=any(_LISTENS_RUST.search(text) for text in texts.values()),
                code=code,
            )
        )
    return found


def maven_programs(tree: Tree) -> list[Program]:
    """The Maven modules that make a Spring Boot application."""
    found = []
    for path in tree.matching("pom.xml"):
        text = tree.text(path) or ""
        # Read by pattern, and never through an XML parser: entities of a stranger's file are not expanded.
        own = re.sub(r"<parent>.*?</parent>|<dependencies>.*?</dependencies>", "", text, flags=re.DOTALL)
        artifact = re.search(_TAG.format("artifactId"), own)
        if artifact is None or "spring-boot-maven-plugin" not in own:
            continue
        folder = posixpath.dirname(path) or "."
        version = re.search(_TAG.format("version"), own) or re.search(_TAG.format("version"), text)
        jar = f"target/{artifact[1]}-{version[1] if version else '0.0.1-SNAPSHOT'}.jar"
        code = tuple(
            tree.below(folder, ".java", ".kt", "application.properties", "application.yml", "application.yaml")
        )
        found.append(
            Program(
                name=artifact[1],
                cwd=folder,
                language="java",
                source=f"{path}:{line_of(text, text.find(artifact[0]))}",
                build=Sourced("mvn --quiet --offline -DskipTests package", path),
                command=Sourced(("java", "-jar", jar, "--server.port=${port}"), "what `build` makes"),
                code=code,
            )
        )
    return found


def _toml(tree: Tree, path: str) -> dict[str, Any] | None:
    text = tree.text(path)
    if text is None:
        return None
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        tree.skip(path, f"not valid TOML ({error})")
        return None


def _cargo_shared(tree: Tree, folder: str, data: dict[str, Any]) -> list[Sourced[str]]:
    found = []
    dependencies = data.get("dependencies")
    for name, wanted in dependencies.items() if isinstance(dependencies, dict) else ():
        place = wanted.get("path") if isinstance(wanted, dict) else None
        if isinstance(place, str):
            home = posixpath.normpath(posixpath.join(folder, place))
            if not home.startswith(("..", "/")) and home != ".":
                found.append(Sourced(home, f"path dependency {name}"))
    if folder != ".":
        found += [Sourced(name, "its workspace") for name in ("Cargo.toml", "Cargo.lock") if tree.has(name)]
    return found
