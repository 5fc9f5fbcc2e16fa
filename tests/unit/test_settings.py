"""`spurline.yaml`: what each mistake is called, and what the other rooms get."""

from __future__ import annotations

import contextlib
import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.project import FILE_NAME, Project, find_root, invocation, read_http_checks, read_project
from harness.runtime import store_place
from sandbox.service import Ready
from tasks.errors import ConfigError, UsageError
from tasks.ticket import CommandCheck, HttpCheck

SMALL = """project: shop
baseline:
  entry: gateway
  services:
    gateway:
      cwd: services/gateway
      command: ["run", "--port=${port}"]
      env:
        USERS_URL: "${url:users}"
      ready: {http: /healthz, timeout: 5s}
    users:
      command:
      - run
      - --ledger=${host:ledger}:${port:ledger}
    ledger: {url: "http://127.0.0.1:9000"}
"""
"""15 lines: what a test adds begins on line 16."""


def written(root: Path, text: str) -> Path:
    (root / FILE_NAME).write_text(text)
    return root


def project(root: Path, more: str = "") -> Project:
    return read_project(written(root, SMALL + more))


def refused(root: Path, text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read_project(written(root, text))
    assert caught.value.exit_code == 2
    assert caught.value.path == root / FILE_NAME
    return caught.value


def test_what_the_sandbox_package_gets(tmp_path: Path) -> None:
    system = project(tmp_path).system()
    assert (system.project, system.entry, system.unknown_key) == ("shop", "gateway", "refuse")
    gateway = system.services["gateway"]
    assert gateway.ready == Ready("http", "/healthz", 5.0)
    assert gateway.neighbours == {"users"}
    assert system.services["users"].ready == Ready("tcp", "", 20.0)
    assert system.services["users"].neighbours == {"ledger"}
    assert system.services["ledger"].url == "http://127.0.0.1:9000"


def test_defaults_are_those_of_the_contract(tmp_path: Path) -> None:
    settings = project(tmp_path).settings
    assert (settings.limits.agents, settings.limits.model_calls, settings.limits.budget_usd) == (100, 40, 200)
    limits = settings.limits
    assert (limits.budget_calls, limits.budget_tokens, limits.budget_minutes) == (20_000, 100_000_000, 1440)
    assert (limits.ticket_calls, limits.ticket_tokens, limits.ticket_minutes) == (400, 2_000_000, 60)
    assert (settings.agent.kind, settings.agent.max_iterations, settings.submit.to) == ("anthropic", 6, "branch")
    assert (settings.checks.repeat, settings.checks.protected) == (2, ("tests/**", "checks/**"))


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "hint"),
    [
        ("project:", "projct:", 1, "projct", "did you mean 'project'?"),
        ("  entry:", "  entri:", 3, "baseline.entri", "did you mean 'entry'?"),
        ("      cwd:", "      cmd:", 6, "baseline.services.gateway.cmd", "did you mean 'cwd'?"),
        ("timeout: 5s", "timout: 5s", 10, "baseline.services.gateway.ready.timout", "did you mean 'timeout'?"),
        ("ledger: {url:", "ledger: {uri:", 15, "baseline.services.ledger.uri", "did you mean 'url'?"),
    ],
)
def test_unknown_keys_at_every_depth(tmp_path: Path, old: str, new: str, line: int, key: str, hint: str) -> None:
    error = refused(tmp_path, SMALL.replace(old, new, 1))
    assert (error.problem, error.line, error.key) == ("unknown key", line, key)
    assert error.hint == hint


@pytest.mark.parametrize(
    ("more", "line", "key", "hint"),
    [
        ("check: {}\n", 16, "check", "did you mean 'checks'?"),
        ("checks:\n  command:\n  - name: a\n    run: x\n    timout: 1s\n", 20, "checks.command.0.timout", "'timeout'"),
        ("checks:\n  repeats: 2\n", 17, "checks.repeats", "'repeat'"),
        ("limits: {agent: 5}\n", 16, "limits.agent", "'agents'"),
        ("agent:\n  kind: rehearsal\n  max_iteration: 3\n", 18, "agent.max_iteration", "'max_iterations'"),
        ("submit: {too: branch}\n", 16, "submit.too", "'to'"),
        ("tickets: {file: x}\n", 16, "tickets.file", "'files'"),
        ("zzz: 1\n", 16, "zzz", "known keys: agent, baseline, checks"),
    ],
)
def test_unknown_keys_of_the_other_parts(tmp_path: Path, more: str, line: int, key: str, hint: str) -> None:
    error = refused(tmp_path, SMALL + more)
    assert (error.problem, error.line, error.key) == ("unknown key", line, key)
    assert hint in error.hint


USERS = "baseline.services.users"


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "words"),
    [
        ("entry: gateway", "entry: gatewai", 3, "baseline.entry", "no service 'gatewai'"),
        ("entry: gateway", "entry: no", 3, "baseline.entry", "no service 'no'"),
        ("${url:users}", "${url:user}", 9, "baseline.services.gateway.env.USERS_URL", "${url:user} names no service"),
        ("${url:users}", "${urls:users}", 9, "baseline.services.gateway.env.USERS_URL", "${urls:users} names no"),
        ("${url:users}", "${url:gateway}", 9, "baseline.services.gateway.env.USERS_URL", "names itself"),
        ("${host:ledger}", "${host:ledge}", 14, f"{USERS}.command.1", "${host:ledge} names no service"),
        ("    users:", "    Users:", 11, "baseline.services.Users", "lower-case letters"),
        ("    users:", "    client:", 11, "baseline.services.client", "callers from outside"),
        ("    users:", "    us_ers:", 11, "baseline.services.us_ers", "lower-case letters"),
        ("    users:", "    gateway:", 11, "", "duplicate key"),
        ("    users:", "    users:\n      url: tcp://127.0.0.1:1", 11, USERS, "either 'command' or 'url'"),
        ("    users:", "    empty: {}\n    users:", 11, "baseline.services.empty", "either 'command' or 'url'"),
        ("    users:", "    users:\n      cwd: ../other", 12, f"{USERS}.cwd", "below the repository's root"),
        ("    users:", "    users:\n      cwd: /etc", 12, f"{USERS}.cwd", "below the repository's root"),
        ("    users:", "    users:\n      link: [a, b/../../c]", 12, f"{USERS}.link.1", "below the repository's root"),
        ("    users:", "    users:\n      env: {PORT: 80}", 12, f"{USERS}.env.PORT", "valid string"),
        ("    users:", "    users:\n      env: {A=B: x}", 12, f"{USERS}.env.A=B", "no '='"),
        ("    users:", "    users:\n      protocol: http3", 12, f"{USERS}.protocol", "'http1', 'http2' or 'tcp'"),
        ("    users:", "    users:\n      ready: {tcp: true, grpc: true}", 12, f"{USERS}.ready", "give one of"),
        ("    users:", "    users:\n      ready: {log: '('}", 12, f"{USERS}.ready.log", "no regular expression"),
        ("    users:", "    users:\n      ready: {http: healthz}", 12, f"{USERS}.ready.http", "pattern"),
        ("    users:", "    users:\n      ready: {timeout: 5}", None, "", ""),
        ("127.0.0.1:9000", "127.0.0.1:99999", 15, "baseline.services.ledger.url", "host and port"),
        ("http://127", "ftp://127", 15, "baseline.services.ledger.url", "host and port"),
        ("127.0.0.1:9000", "", 15, "baseline.services.ledger.url", "host and port"),
        ("127.0.0.1:9000", "127.0.0.1:9000/v1", 15, "baseline.services.ledger.url", "host and port"),
        ("project: shop", "project: a/b", 1, "project", "no '/'"),
    ],
)
def test_each_mistake_in_the_system(tmp_path: Path, old: str, new: str, line: int | None, key: str, words: str) -> None:
    text = SMALL.replace(old, new, 1)
    if line is None:
        read_project(written(tmp_path, text))
        return
    error = refused(tmp_path, text)
    assert words in error.problem
    assert (error.line, error.key) == (line, key)


@pytest.mark.parametrize(
    ("more", "line", "key"),
    [
        ("limits: {agents: 0}\n", 16, "limits.agents"),
        ("limits: {budget_usd: .inf}\n", 16, ""),
        ("limits: {budget_usd: -1}\n", 16, "limits.budget_usd"),
        ("limits: {ticket_tokens: 0}\n", 16, "limits.ticket_tokens"),
        ("limits: {budget_calls: 1.5}\n", 16, "limits.budget_calls"),
        ("checks: {repeat: 0}\n", 16, "checks.repeat"),
        ("checks: {static: ruff}\n", 16, "checks.static"),
        ("checks: {http: ../checks/*.yaml}\n", 16, "checks.http"),
        ("tickets: {files: /tmp/*.md}\n", 16, "tickets.files"),
        ("agent: {kind: claude}\n", 16, "agent.kind"),
        ("submit: {to: github}\n", 16, "submit.to"),
        ("checks: [a]\n", 16, "checks"),
        ("checks:\n", 16, "checks"),
    ],
)
def test_each_mistake_in_the_other_parts(tmp_path: Path, more: str, line: int, key: str) -> None:
    error = refused(tmp_path, SMALL + more)
    assert (error.line, error.key) == (line, key)


@pytest.mark.parametrize("text", ["", "# nothing\n", "- a\n", "just text"])
def test_a_file_that_is_no_mapping(tmp_path: Path, text: str) -> None:
    error = refused(tmp_path, text)
    assert error.line == 1
    assert "expected a mapping" in error.problem


def test_hints_name_the_services(tmp_path: Path) -> None:
    assert refused(tmp_path, SMALL.replace("${url:users}", "${url:user}")).hint == "did you mean 'users'?"
    assert refused(tmp_path, SMALL.replace("${url:users}", "${url:zz}")).hint == "services: gateway, users, ledger"
    assert "write ${port}, ${url:S}" in refused(tmp_path, SMALL.replace("${url:users}", "${url: users}")).hint


def test_the_root_is_found_upwards(tmp_path: Path) -> None:
    project(tmp_path)
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    assert find_root(deep) == tmp_path.resolve()
    with pytest.raises(UsageError, match=r"no spurline\.yaml") as caught:
        find_root(Path("/"))
    assert "spurline init" in caught.value.hint


def test_a_command_names_the_project_where_it_would_mean_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, gone = tmp_path / "my shop", tmp_path / "gone"
    for folder in (root / "a" / "b", root / "examples" / "other", gone):
        folder.mkdir(parents=True)
    project(root)
    (root / "examples" / "other" / FILE_NAME).write_text(SMALL)
    named = f"spurline -C '{root}'"
    wanted = {root: "spurline", root / "a" / "b": "spurline", root / "examples" / "other": named, tmp_path: named}
    for folder, line in wanted.items():
        monkeypatch.chdir(folder)
        assert invocation(root) == line
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert invocation(root) == named


def test_the_digest_is_of_what_is_said_not_of_the_file(tmp_path: Path) -> None:
    digest = project(tmp_path).settings.digest()
    assert project(tmp_path, "# a comment\nlimits: {agents: 100}\n").settings.digest() == digest
    assert project(tmp_path, "limits: {agents: 99}\n").settings.digest() != digest


HTTP_CHECK = "- name: {name}\n  request: {{path: /x}}\n  expect: {{status: 200}}\n"


def http_file(root: Path, text: str, name: str = "a.yaml") -> Path:
    path = root / "checks" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_http_checks_of_a_list_or_a_mapping(tmp_path: Path) -> None:
    listed = HTTP_CHECK.format(name="one") + "- name: |-\n    two\n  request: {path: /}\n  expect: {contains: x}\n"
    mappings = ("checks:\n" + listed, "checks:\n" + textwrap.indent(listed, "  "))
    for text in (listed, "---\n" + listed, "# comment\n" + listed + "...\n", *mappings):
        checks = read_http_checks(http_file(tmp_path, text))
        assert [check.name for check, _ in checks] == ["one", "two"]
    assert read_http_checks(http_file(tmp_path, "[]")) == []


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        (HTTP_CHECK.format(name="a") + "- nam: b\n", 4, "checks.1.nam"),
        ("---\n# words\n" + HTTP_CHECK.format(name="a").replace("path", "pth"), 4, "checks.0.request.pth"),
        (
            HTTP_CHECK.format(name="a") + "- name: b\n  request:\n    path: x\n  expect: {status: 1}\n",
            6,
            "checks.1.request.path",
        ),
        ("checks:\n" + HTTP_CHECK.format(name="a").replace("status", "stats"), 4, "checks.0.expect.stats"),
        ("- just text\n", 1, "checks.0"),
        ("", 1, ""),
        ("check: []\n", 1, "check"),
        ("- name: a\n  request: {path: /x}\n  expect: {status: 200}\n  - b\n", 4, ""),
    ],
)
def test_mistakes_in_files_of_http_checks(tmp_path: Path, text: str, line: int, key: str) -> None:
    path = http_file(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        read_http_checks(path)
    assert (caught.value.path, caught.value.line, caught.value.key) == (path, line, key)


COMMANDS = "checks:\n  command: [{name: integration, run: pytest}]\n  http: checks/*.yaml\n"


def test_all_judging_checks_in_order(tmp_path: Path) -> None:
    http_file(tmp_path, HTTP_CHECK.format(name="second"), "b.yaml")
    http_file(tmp_path, HTTP_CHECK.format(name="first"), "a.yaml")
    checks = project(tmp_path, COMMANDS).checks()
    assert [check.name for check in checks] == ["integration", "first", "second"]
    assert [type(check) for check in checks] == [CommandCheck, HttpCheck, HttpCheck]
    other = tmp_path / "other"
    http_file_root = other / "checks"
    http_file_root.mkdir(parents=True)
    (http_file_root / "z.yaml").write_text(HTTP_CHECK.format(name="elsewhere"))
    assert [check.name for check in project(tmp_path, COMMANDS).checks(other)] == ["integration", "elsewhere"]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (HTTP_CHECK.format(name="a") + HTTP_CHECK.format(name="a"), 4, "two checks are named 'a'"),
        (HTTP_CHECK.format(name="integration"), 1, "two checks are named 'integration'"),
        (HTTP_CHECK.format(name="a").replace("path:", "service: user, path:"), 1, "no service 'user'"),
    ],
)
def test_mistakes_between_checks_are_said_of_their_file(tmp_path: Path, text: str, line: int, words: str) -> None:
    path = http_file(tmp_path, text)
    with pytest.raises(ConfigError, match=words) as caught:
        project(tmp_path, COMMANDS).checks()
    assert (caught.value.path, caught.value.line) == (path, line)


def test_checks_that_are_not_there_are_missed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no file matches") as caught:
        project(tmp_path, COMMANDS).checks()
    assert caught.value.key == "checks.http"
    with pytest.raises(ConfigError, match="two checks are named 'a'"):
        project(tmp_path, "checks: {command: [{name: a, run: x}, {name: a, run: y}]}\n").checks()
    assert project(tmp_path).checks() == ()


def test_the_backlog_knows_the_services(tmp_path: Path) -> None:
    tickets = tmp_path / "tickets"
    tickets.mkdir()
    with pytest.raises(ConfigError, match="no ticket file matches"):
        project(tmp_path).backlog()
    (tickets / "a.md").write_text("---\nid: a\ntitle: x\nservices: [users]\n---\n")
    assert [ticket.id for ticket in project(tmp_path).backlog()] == ["a"]
    (tickets / "b.md").write_text("---\nid: b\ntitle: x\nservices: [user]\n---\n")
    with pytest.raises(ConfigError, match="no service 'user'") as caught:
        project(tmp_path).backlog()
    assert (caught.value.path, caught.value.key) == (tickets / "b.md", "services")
    assert caught.value.hint == "did you mean 'users'?"
    check = "{name: c, request: {service: gate, path: /}, expect: {status: 200}}"
    (tickets / "b.md").write_text(f"---\nid: b\ntitle: x\nchecks: {{http: [{check}]}}\n---\n")
    with pytest.raises(ConfigError, match="no service 'gate'") as caught:
        project(tmp_path).backlog()
    assert (caught.value.path, caught.value.key) == (tickets / "b.md", "checks.http of 'c'")


def mutations() -> st.SearchStrategy[str]:
    lines = SMALL.splitlines(keepends=True)

    def mutate(cuts: list[tuple[int, str]]) -> str:
        changed = list(lines)
        for place, text in cuts:
            changed[place % len(changed)] = text
        return "".join(changed)

    piece = st.sampled_from([*lines, "", "\n", "  - x\n", "    ? y\n", "  *a\n", "  b: &a {<<: *a}\n"]) | st.text(
        max_size=12
    )
    return st.lists(st.tuples(st.integers(0, 30), piece), max_size=4).map(mutate)


@given(mutations())
def test_any_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    root = tmp_path_factory.getbasetemp() / "any-file"
    root.mkdir(exist_ok=True)
    (root / FILE_NAME).write_bytes(text.encode(errors="surrogatepass"))
    with contextlib.suppress(ConfigError):
        found: Any = read_project(root)
        assert found.system().entry in found.system().services


def test_where_the_store_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store_place(project(tmp_path), "spurline.db") == tmp_path / ".spurline" / "spurline.db"
    there = "postgresql+psycopg://spurline@db.example:5432/spurline?sslmode=require"
    given = project(tmp_path, f"store: {there}\n")
    assert store_place(given, "spurline.db") == there
    other = "postgresql://spurline:s3cr3t@other.example/spurline"
    monkeypatch.setenv("SPURLINE_STORE", other)
    assert store_place(given, "spurline.db") == other
    assert "s3cr3t" not in repr(given)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:s3cr3t@host/database",
        "postgresql+psycopg://user:s3cr3t@host/database",
        "postgresql://user:1/s3cr3t@host/database",
        "postgresql://user:s3cr3t#@host/database",
        "postgresql://user@host/database?password=s3cr3t",
        "postgresql://user:s3cr3t@host",
        "postgresql://user:s3cr3t@host:port/database",
        "mysql://user:s3cr3t@host/database",
        "s3cr3t",
    ],
)
def test_a_store_that_is_refused_is_not_repeated(tmp_path: Path, url: str) -> None:
    error = refused(tmp_path, SMALL + f"store: '{url}'\n")
    assert (error.line, error.key) == (16, "store")
    assert "s3cr3t" not in str(error) + error.hint


def test_a_password_in_the_file_is_sent_elsewhere(tmp_path: Path) -> None:
    error = refused(tmp_path, SMALL + "store: postgresql://user:s3cr3t@host/database\n")
    assert "SPURLINE_STORE" in str(error)
