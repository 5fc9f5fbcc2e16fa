"""The backlog of examples/shop, played without Spurline's loop: every ticket ends as expected.yaml says.

Nothing is faked: recordings edit a copy of the shop, the services that a copy changes run as processes beside a running
baseline (with the services that call them, so that a plain address leads to the change), and the checks are the shop's
own. `legacy` always stays the baseline's, since it hands no key on: what lies behind it is what a lost key would show.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import pytest
from ruamel.yaml import YAML

from harness.project import Project, read_project
from harness.validation.http import http_client, run_http
from harness.validation.results import CheckResult
from harness.validation.targets import Target
from sandbox.service import CLIENT, System, fill
from tasks.ticket import Check, CommandCheck, HttpCheck, Ticket
from tests.processes import end

SHOP: Final = Path(__file__).parents[2] / "examples" / "shop"
EXPECTED: Final[dict[str, dict[str, Any]]] = YAML(typ="safe").load((SHOP / "expected.yaml").read_text())
SAID: Final = {
    "users-v2": "customer.currency must be one of EUR, GBP, USD, got None",
    "order-shipped": "there is no template 'order_shipped'",
    "users-locale": "table users has 6 columns but 5 values were supplied",
    "charge-receipts": "KeyError: 'id'",
}
"""What a real neighbour says of the first try. The other tickets are played under the `chaos` mark: in the suite,
the demo works them all."""
KNOWN_RED: Final = "products are listed by name"
DROPS_KEYS: Final = "legacy"
IGNORED: Final = ("__pycache__", "*.pyc", ".pytest_cache")


@dataclass
class Town:
    """Processes of services, each run from a tree of its own, reached by plain addresses."""

    system: System
    logs: Path
    ports: dict[str, int]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, names: Sequence[str], tree: Path) -> str | None:
        """Start services from `tree`; None when all are ready, else the log of one that ended."""
        for name in names:
            service = self.system.services[name]
            own = {key: fill(text, self.address, self.ports[name]) for key, text in service.env.items()}
            with (self.logs / f"{name}.log").open("wb") as log:
                self.processes[name] = subprocess.Popen(
                    [sys.executable, *service.command[1:]],
                    cwd=tree / service.cwd,
                    env={**plain_environment(), **own, "PORT": str(self.ports[name])},
                    stdout=log,
                    stderr=log,
                )
        return next((broken for name in names if (broken := self._wait(name)) is not None), None)

    def stop(self, names: Sequence[str] | None = None) -> None:
        end(*[self.processes.pop(name) for name in (list(self.processes) if names is None else names)])

    def address(self, name: str) -> tuple[str, int]:
        return "127.0.0.1", self.ports[name]

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    def mark(self) -> dict[str, int]:
        """Where the logs end now, in bytes."""
        return {path.name: path.stat().st_size for path in self.logs.glob("*.log")}

    def log(self, since: Mapping[str, int]) -> str:
        """What was refused or failed since a mark, in the services' own words."""
        texts = [path.read_bytes()[since.get(path.name, 0) :] for path in sorted(self.logs.glob("*.log"))]
        lines = [line for text in texts for line in text.decode(errors="replace").splitlines()]
        return "\n".join(line for line in lines if " refused: " in line or "Error" in line)

    def _wait(self, name: str) -> str | None:
        process = self.processes[name]
        while process.poll() is None:
            log = (self.logs / f"{name}.log").read_text(errors="replace")
            if "listening on" in log or (name == DROPS_KEYS and is_open(self.ports[name])):
                return None
            time.sleep(0.02)
        return (self.logs / f"{name}.log").read_text(errors="replace")


@dataclass(frozen=True)
class Outcome:
    """How a recording ended without the loop."""

    state: str
    iterations: int
    why: str
    evidence: tuple[str, ...]
    """What went back to the agent, one text an iteration."""


@dataclass(frozen=True)
class World:
    """The running baseline, and what judges."""

    project: Project
    baseline: Town
    tmp: Path

    @cached_property
    def red(self) -> frozenset[str]:
        """Names of the checks that fail on the baseline: the repository's own and every ticket's."""
        checks = [*self.project.checks(), *(check for ticket in self.project.backlog() for check in ticket.checks.all)]
        return frozenset(check.name for check in checks if complaint(check, self.baseline) is not None)

    @contextmanager
    def forked(self, tree: Path, changed: frozenset[str], name: str) -> Iterator[tuple[Town, str | None]]:
        """The baseline with the changed services, and all that call them, run from `tree`."""
        moved = callers_of(self.project.system(), changed)
        logs = self.tmp / name
        logs.mkdir()
        ports = free_ports(len(moved))
        town = Town(self.baseline.system, logs, {**self.baseline.ports, **dict(zip(moved, ports, strict=True))})
        try:
            yield town, town.start(moved, tree)
        finally:
            town.stop()


def plain_environment() -> dict[str, str]:
    return {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONDONTWRITEBYTECODE": "1"}


_PORTS: Final = iter(range(31200, 32700))


def free_ports(count: int) -> list[int]:
    """Ports outside of the kernel's ephemeral range that nobody listens on, each handed out once."""
    return list(itertools.islice((port for port in _PORTS if not is_open(port)), count))


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def callers_of(system: System, changed: frozenset[str]) -> list[str]:
    """`changed` and every service from which a request may come to it with its key."""
    moved = set(changed)
    while True:
        more = {
            caller
            for caller, service in system.pairs()
            if service in moved and caller not in moved and caller not in (CLIENT, DROPS_KEYS)
        }
        if not more:
            return sorted(moved)
        moved |= more


def complaint(check: Check, town: Town) -> str | None:
    """What is wrong with the answer of `town`; None when the check passes."""
    return command_complaint(check, town) if isinstance(check, CommandCheck) else http_complaint(check, town)


def command_complaint(check: CommandCheck, town: Town) -> str | None:
    environment = {**plain_environment(), **target(town).environment()}
    done = subprocess.run(check.run.split(), cwd=SHOP, env=environment, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"{check.name}\n{done.stdout}{done.stderr}"


def http_complaint(check: HttpCheck, town: Town) -> str | None:
    async def ask() -> CheckResult:
        async with http_client() as client:
            return await run_http(check, target(town), client)

    result = asyncio.run(ask())
    return None if result.passed else f"{check.name}: {result.detail}\n{result.output}"


def target(town: Town) -> Target:
    return Target("gateway", {name: town.url(name) for name in town.ports}, key="0" * 16)


@dataclass
class Player:
    """Plays one recording in a copy of the shop, as the rehearsal server and the agent's tools would."""

    tree: Path
    turns: list[dict[str, Any]]
    position: int = 0
    asked: str | None = None
    tested: bool = False
    """Whether its last command passed and nothing was edited since."""

    def generate(self, message: str) -> None:
        """Go on from `message` to the end of the agent's turn."""
        text = message
        if message:
            self._turn_from(message)
        while self.position < len(self.turns) and "use" in self.turns[self.position] and self.asked is None:
            text = "\n".join(self._tool(**use) for use in self.turns[self.position]["use"])
            self._turn_from(text)

    def _turn_from(self, text: str) -> None:
        if self.position >= len(self.turns):
            return  # it has nothing further
        for way in self.turns[self.position].get("next", [None]):
            if way is None:
                self.position += 1
                return
            if way.get("contains", "") in text and re.search(way.get("matches", ""), text):
                self.position = next(i for i, turn in enumerate(self.turns) if turn.get("id") == way["go"])
                return
        raise AssertionError(f"no way on from {self.turns[self.position]} with: {text}")

    def _tool(self, tool: str, input: dict[str, Any]) -> str:
        path: Path = self.tree / input.get("file_path", input.get("path", "."))
        self.tested = self.tested and tool not in ("write", "edit")
        match tool:
            case "read":
                return path.read_text()
            case "write":
                path.write_text(input["content"])
                return "written"
            case "edit":
                old, text = input["old_string"], path.read_text()
                assert text.count(old) == 1 or (input.get("replace_all") and old in text), f"{path}: {old}"
                path.write_text(text.replace(old, input["new_string"]))
                return "edited"
            case "grep":
                files = [file for file in path.rglob("*") if file.suffix in (".py", ".sql")]
                return "\n".join(
                    line
                    for file in files
                    for line in file.read_text().splitlines()
                    if re.search(input["pattern"], line)
                )
            case "bash":
                code, output = run_in(self.tree, input["command"])
                self.tested = code == 0
                return output
            case "ask_human":
                self.asked = str(input["reason"])
                return "asked"
        raise AssertionError(f"there is no tool {tool!r}")


def run_in(tree: Path, command: str) -> tuple[int, str]:
    done = subprocess.run(
        command.split(), cwd=tree, env=plain_environment(), capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def changed_files(tree: Path) -> dict[str, str]:
    """Path to `added` or `altered`; nothing is ever deleted by the recordings."""
    found: dict[str, str] = {}
    for file in tree.rglob("*"):
        name = file.relative_to(tree).as_posix()
        if file.is_dir() or any(fnmatch(part, pattern) for part in file.parts for pattern in IGNORED):
            continue
        if not (SHOP / name).exists():
            found[name] = "added"
        elif file.read_bytes() != (SHOP / name).read_bytes():
            found[name] = "altered"
    return found


def play(world: World, ticket: Ticket) -> Outcome:
    """Play the recording of `ticket` to its end, with the rules of 'What verified means' as far as they go here."""
    tree = world.tmp / f"{ticket.id}-tree"
    shutil.copytree(SHOP, tree, ignore=shutil.ignore_patterns(*IGNORED))
    recording = YAML(typ="safe").load((SHOP / "recordings" / f"{ticket.id}.yaml").read_text())
    player, message = Player(tree, recording["turns"]), ""
    told: list[str] = []
    for iteration in range(1, world.project.settings.agent.max_iterations + 1):
        player.generate(message)
        if player.asked is not None:
            return Outcome("needs_human", iteration, player.asked, tuple(told))
        conclusion, message = judge(world, ticket, player, f"{ticket.id}-{iteration}")
        if conclusion != "failed":
            return Outcome(conclusion, iteration, message, tuple(told))
        told.append(message)
    return Outcome("failed", iteration, "out of budget", tuple(told))


def judge(world: World, ticket: Ticket, player: Player, name: str) -> tuple[str, str]:
    """What the checks say of a changed tree, and why; of a failed one the evidence."""
    tree = player.tree
    changes = changed_files(tree)
    system = world.project.system()
    forks = frozenset(owner for path in changes for owner in system.owners(path))
    if foreign := [
        path for path, kind in changes.items() if path.startswith(("tests/", "checks/")) and kind != "added"
    ]:
        return "needs_human", f"protected: {foreign}"
    if outside := forks - set(ticket.services):
        return "needs_human", f"outside: {sorted(outside)}"
    if not player.tested:
        code, output = run_in(tree, " ".join(["pytest", *(f"services/{fork}" for fork in sorted(forks))]))
        if code != 0:
            return "failed", output
    with world.forked(tree, forks, name) as (town, broken):
        if broken is not None:
            return "failed", broken
        before = world.baseline.mark()
        own = [wrong for check in repeated(ticket) if (wrong := complaint(check, town))]
        others = [
            wrong
            for check in ([] if own else world.project.checks())
            if check.name not in world.red and (wrong := complaint(check, town))
        ]
        if own and not others and DROPS_KEYS in calling(system, forks) and "statement" in own[0]:
            return "unproven", f"lost in {DROPS_KEYS}"
        if own or others:
            return "failed", "\n".join([*own, *others, town.log({}), world.baseline.log(before)])
        proves_nothing = [check.name for check in ticket.checks.all if check.name not in world.red]
        if proves_nothing and not ticket.preserve:
            return "unproven", f"passes on the baseline: {proves_nothing}"
        if ticket.preserve or not ticket.checks.all:
            return seen(world, ticket, town, forks)
        return "verified", ""


def repeated(ticket: Ticket) -> list[Check]:
    """The ticket's own checks; the quick ones twice, since an answer may change from one request to the next."""
    return [*ticket.checks.command, *(check for check in ticket.checks.http for _ in range(2))]


def calling(system: System, forks: frozenset[str]) -> set[str]:
    return {caller for caller, service in system.pairs() if service in forks}


def seen(world: World, ticket: Ticket, town: Town, forks: frozenset[str]) -> tuple[str, str]:
    """The planted fault: with each fork away, some check must turn red."""
    for fork in forks:
        town.stop([fork])
        checks = [*ticket.checks.all, *(check for check in world.project.checks() if check.name not in world.red)]
        if not any(complaint(check, town) for check in checks):
            return "unproven", f"no check depends on {fork}"
    return "verified", "regressions only" if not ticket.checks.all else ""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    project = read_project(SHOP)
    system = project.system()
    tmp = tmp_path_factory.mktemp("shop")
    logs = tmp / "baseline"
    logs.mkdir()
    baseline = Town(system, logs, dict(zip(system.services, free_ports(len(system.services)), strict=True)))
    try:
        assert (broken := baseline.start(list(system.services), SHOP)) is None, broken
        yield World(project, baseline, tmp)
    finally:
        baseline.stop()


@pytest.fixture(scope="module")
def played(world: World, request: pytest.FixtureRequest) -> Iterator[Mapping[str, Future[Outcome]]]:
    """The tickets of the tests that were selected, three at a time: each test waits for its own."""
    specs = [
        item.callspec
        for item in request.session.items
        if isinstance(item, pytest.Function) and hasattr(item, "callspec")
    ]
    wanted = {spec.params["ticket"] for spec in specs if "ticket" in spec.params}
    assert world.red
    with ThreadPoolExecutor(3) as pool:
        yield {t.id: pool.submit(play, world, t) for t in world.project.backlog() if t.id in wanted}


def test_every_ticket_has_a_recording_and_an_expectation(world: World) -> None:
    tickets = {ticket.id for ticket in world.project.backlog()}
    assert tickets == set(EXPECTED)
    assert tickets == {path.stem for path in (SHOP / "recordings").glob("*.yaml")}
    assert len(tickets) >= 17


def test_the_baseline_is_green_but_for_what_is_known(world: World) -> None:
    repository = {check.name for check in world.project.checks()}
    assert repository & world.red == {KNOWN_RED}


def test_checks_of_tickets_are_red_on_the_baseline_unless_they_are_meant_not_to(world: World) -> None:
    for ticket in world.project.backlog():
        green = [check.name for check in ticket.checks.all if check.name not in world.red]
        assert bool(green) == (ticket.preserve or ticket.id == "order-not-found"), ticket.id


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "ticket",
    [name if name in SAID else pytest.param(name, marks=pytest.mark.chaos) for name in sorted(EXPECTED)],
)
def test_a_ticket_ends_as_expected(ticket: str, played: Mapping[str, Future[Outcome]]) -> None:
    outcome = played[ticket].result()
    wanted = EXPECTED[ticket]
    assert (outcome.state, outcome.iterations) == (wanted["state"], wanted["iterations"]), outcome


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("ticket", "words"), SAID.items())
def test_the_evidence_is_what_a_real_neighbour_said(
    ticket: str, words: str, played: Mapping[str, Future[Outcome]]
) -> None:
    assert words in played[ticket].result().evidence[0]


@pytest.mark.timeout(600)
def test_neither_of_two_services_would_pass_alone(world: World, played: Mapping[str, Future[Outcome]]) -> None:
    assert played["order-shipped"].result().state == "verified"
    (acceptance,) = world.project.backlog().only(["order-shipped"]).tickets[0].checks.all
    for alone in ("orders", "notifications"):
        tree = world.tmp / f"only-{alone}"
        shutil.copytree(SHOP, tree, ignore=shutil.ignore_patterns(*IGNORED))
        shutil.copytree(
            world.tmp / "order-shipped-tree/services" / alone, tree / "services" / alone, dirs_exist_ok=True
        )
        with world.forked(tree, frozenset({alone}), f"only-{alone}-town") as (town, broken):
            assert broken is None
            assert complaint(acceptance, town) is not None


def test_a_shared_library_belongs_to_all_that_use_it(world: World) -> None:
    owners = world.project.system().owners("libs/contracts/pricing.proto")
    assert owners == {"gateway", "orders", "inventory", "pricing"}
