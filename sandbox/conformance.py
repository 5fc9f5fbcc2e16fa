"""The contract of `sandbox.driver` as a suite that any driver can run: each check is one sentence of it.

A driver's tests make a `Stage` and run every check of `SHARED` over one baseline that is up, and every check of `ALONE`
over a driver of its own with nothing up. A check raises `Broken` with the sentence that does not hold.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import httpx

from sandbox.driver import Driver, Sandbox, Source
from sandbox.sample import Sample
from tasks.errors import BaselineError, ForkError, SandboxError, SandboxGone, SandboxTaken

TTL_S: Final = 120.0
_WAIT_S: Final = 15.0


class Broken(AssertionError):
    """The driver does not keep a promise."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What a check works with: a driver, the sample system, and an HTTP client without a key of its own."""

    driver: Driver
    sample: Sample
    http: httpx.AsyncClient

    async def words(self, url: str, path: str = "/") -> list[str]:
        """The words of all services that a request passed, the first one's first."""
        answer = (await self.http.get(url + path)).raise_for_status().json()
        words = []
        while isinstance(answer, dict):
            words.append(str(answer.get("word", answer)))
            answer = answer.get("next")
        return words

    async def status(self, url: str, key: str | None = None) -> int:
        """The status of one request, with the key in its plainest carrier if one is given."""
        headers = {"x-spurline-key": key} if key else {}
        return (await self.http.get(url, headers=headers)).status_code

    async def forked(self, name: str, commit: str, *services: str) -> Sandbox:
        """A new sandbox with forks of `services` at `commit`."""
        sources = {service: Source(commit=commit) for service in services}
        return await self.driver.create(name, ttl_s=TTL_S, sources=sources)

    async def entry(self) -> str:
        """The unkeyed URL of the entry."""
        baseline = await self.driver.baseline()
        if baseline is None:
            raise Broken("a baseline is up")
        return baseline.urls["a"]


Body = Callable[[Stage], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Check:
    """One promise, and what shows that it is kept."""

    promise: str
    body: Body

    @property
    def name(self) -> str:
        return self.body.__name__.strip("_")


def must(holds: bool, promise: str) -> None:
    """Raise Broken unless it holds."""
    if not holds:
        raise Broken(promise)


async def _must_raise(kind: type[Exception], work: Awaitable[Any], promise: str) -> Any:
    try:
        await work
    except kind as error:
        return error
    raise Broken(promise)


async def _eventually(holds: Callable[[], Awaitable[bool]], promise: str) -> None:
    try:
        async with asyncio.timeout(_WAIT_S):
            while not await holds():  # noqa: ASYNC110 - the promise is about the world outside
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise Broken(promise) from None


async def _on_its_way(stage: Stage, name: str) -> Sandbox:
    """A sandbox that is being created, as `list` shows it."""
    seen: list[Sandbox] = []

    async def shown() -> bool:
        seen.extend(box for box in await stage.driver.list() if box.name == name)
        return bool(seen)

    await _eventually(shown, "`list` names what is being created")
    return seen[0]


async def _baseline_is_ready(stage: Stage) -> None:
    baseline = await stage.driver.baseline()
    if baseline is None:
        raise Broken("`up` returns when every service is ready")
    must(baseline.version == stage.sample.base, "its version is its commit")
    must(baseline.healthy, "a baseline that came up is healthy")
    must(set(baseline.services) == set(stage.sample.system.services), "every service runs")
    must(await stage.words(baseline.urls["a"]) == ["a", "b", "c"], "requests without a key are served by the baseline")


async def _up_again(stage: Stage) -> None:
    first = await stage.driver.baseline()
    second = await stage.driver.up(stage.sample.system, stage.sample.base)
    same = first is not None and {n: r.pid for n, r in first.services.items()} == {
        n: r.pid for n, r in second.services.items()
    }
    must(same, "called again with the same system and commit it returns the running baseline")
    await _must_raise(
        BaselineError,
        stage.driver.up(stage.sample.system, stage.sample.changed),
        "called again with another commit it raises",
    )


async def _empty_sandbox(stage: Stage) -> None:
    box = await stage.driver.create("empty", ttl_s=TTL_S)
    must(box.forks == {} and box.generation == 0, "`create` without sources makes a sandbox without forks")
    must(await stage.words(box.urls["a"]) == ["a", "b", "c"], "without forks the baseline serves its key")
    await _must_raise(SandboxTaken, stage.driver.create("empty", ttl_s=TTL_S), "a live name raises SandboxTaken")
    box = await stage.driver.fork("empty", {"b": Source(commit=stage.sample.changed)})
    must((box.generation, box.forks["b"].generation) == (1, 1), "what it forks later is its first generation")
    must(await stage.words(box.urls["a"]) == ["a", "changed-b", "c"], "and serves its key")
    await stage.driver.delete("empty")


async def _fork_serves_its_key_only(stage: Stage) -> None:
    box = await stage.forked("one", stage.sample.changed, "b")
    must(
        await stage.words(box.urls["a"]) == ["a", "changed-b", "c"], "the key reaches the fork in the midst of a chain"
    )
    must(await stage.words(box.urls["b"]) == ["changed-b", "c"], "the keyed ingress of the fork itself reaches it")
    must(await stage.words(await stage.entry()) == ["a", "b", "c"], "a request without the key never does")
    fork = box.forks["b"]
    must((fork.commit, fork.generation) == (stage.sample.changed, 1), "a fork says which commit it runs")
    must(fork.alive and fork.ready_s > 0, "a fork that is ready lives")
    await stage.driver.delete("one")


async def _many_fork_the_same_service(stage: Stage) -> None:
    boxes = await asyncio.gather(
        stage.forked("left", stage.sample.changed, "b"), stage.forked("right", stage.sample.again, "b")
    )
    seen = [(await stage.words(box.urls["a"]))[1] for box in boxes]
    must(seen == ["changed-b", "again-b"], "sandboxes that fork the same service do not see each other")
    await asyncio.gather(stage.driver.delete("left"), stage.driver.delete("right"))


async def _two_services_move_together(stage: Stage) -> None:
    box = await stage.forked("pair", stage.sample.changed, "b", "c")
    must(box.generation == 1, "forks that come together are one generation of the sandbox")
    must(await stage.words(box.urls["a"]) == ["a", "changed-b", "changed-c"], "all named services are forked")
    await stage.driver.delete("pair")


async def _failed_fork_changes_nothing(stage: Stage) -> None:
    await stage.forked("broken", stage.sample.changed, "b")
    failing = {"b": Source(commit=stage.sample.crashing), "c": Source(commit=stage.sample.changed)}
    error = await _must_raise(
        ForkError, stage.driver.fork("broken", failing), "a process that ends before it is ready is a ForkError"
    )
    must((error.service, error.stage) == ("b", "start"), "a ForkError names the service and the stage")
    must(any("no more tea" in line for line in error.log), "a ForkError holds the last lines")
    box = await stage.driver.get("broken")
    must(await stage.words(box.urls["a"]) == ["a", "changed-b", "c"], "on ForkError the sandbox is as before")
    must((box.generation, set(box.forks)) == (1, {"b"}), "on ForkError no generation has grown")
    await stage.driver.delete("broken")


async def _failed_first_fork_leaves_nothing(stage: Stage) -> None:
    await stage.driver.gc()
    failing = {"b": Source(commit=stage.sample.crashing), "c": Source(commit=stage.sample.slow)}
    making = asyncio.create_task(stage.driver.create("stillborn", ttl_s=TTL_S, sources=failing))
    coming = await _on_its_way(stage, "stillborn")
    error = await _must_raise(ForkError, making, "a first fork that ends before it is ready is a ForkError")
    must((error.service, error.stage) == ("b", "start"), "that names the service and the stage")
    must(any("no more tea" in line for line in error.log), "and holds the last lines")
    await _must_raise(SandboxGone, stage.driver.get("stillborn"), "on ForkError there is no sandbox")
    must("stillborn" not in {box.name for box in await stage.driver.list()}, "`list` does not name it either")
    must(await stage.status(await stage.entry(), coming.key) == 421, "its key is refused")
    must(await stage.driver.gc() == (), "and nothing of it is left")
    box = await stage.forked("stillborn", stage.sample.changed, "b")
    must(await stage.words(box.urls["a"]) == ["a", "changed-b", "c"], "the name is free")
    await stage.driver.delete("stillborn")


async def _nobody_has_it_before_it_is_made(stage: Stage) -> None:
    making = asyncio.create_task(stage.forked("coming", stage.sample.slow, "b"))
    coming = await _on_its_way(stage, "coming")
    must((coming.forks, coming.urls) == ({}, {}), "what is being created has a name, but no forks or addresses")
    for call in (stage.driver.get("coming"), stage.driver.renew("coming", ttl_s=TTL_S)):
        await _must_raise(SandboxGone, call, "until `create` has returned nobody can use what it makes")
    await _must_raise(SandboxTaken, stage.driver.create("coming", ttl_s=TTL_S), "its name is taken already")
    await stage.driver.delete("coming")
    await _must_raise(SandboxGone, making, "`delete` calls off a sandbox that is being created")
    must(await stage.status(await stage.entry(), coming.key) == 421, "and its key is refused")


async def _update_without_a_failed_request(stage: Stage) -> None:
    box = await stage.forked("updated", stage.sample.changed, "b")
    under_way = asyncio.create_task(stage.words(box.urls["b"], "/slow/400"))
    await asyncio.sleep(0.1)
    box = await stage.driver.fork("updated", {"b": Source(commit=stage.sample.again)})
    must(box.forks["b"].generation == 2, "the generation of each named service grows by one")
    must((await stage.words(box.urls["a"]))[1] == "again-b", "after `fork` the new generation serves")
    must((await under_way)[0] == "changed-b", "a request that the old process had begun is answered by it")
    await stage.driver.delete("updated")


async def _refused_after_delete(stage: Stage) -> None:
    box = await stage.forked("deleted", stage.sample.changed, "b")
    await stage.driver.delete("deleted")
    must(await stage.status(await stage.entry(), box.key) == 421, "after `delete` a request with the key is refused")
    await stage.driver.delete("deleted")
    await _must_raise(SandboxGone, stage.driver.get("deleted"), "a deleted sandbox is gone")
    again = await stage.driver.create("deleted", ttl_s=TTL_S)
    must(again.key != box.key, "created anew it has another key")
    await stage.driver.delete("deleted")


async def _lease_ends(stage: Stage) -> None:
    box = await stage.forked("leased", stage.sample.changed, "b")
    url = await stage.entry()
    renewed = await stage.driver.renew("leased", ttl_s=TTL_S * 2)
    must(renewed.lease_ends > box.lease_ends, "`renew` moves the end of the lease")
    await stage.driver.renew("leased", ttl_s=0.05)

    async def refused() -> bool:
        return await stage.status(url, box.key) == 421

    await _eventually(refused, "a lease that ends takes the key along")
    for call in (stage.driver.get("leased"), stage.driver.renew("leased", ttl_s=TTL_S)):
        await _must_raise(SandboxGone, call, "after its lease every call on its name raises SandboxGone")
    await _must_raise(
        SandboxGone,
        stage.driver.fork("leased", {"b": Source(commit=stage.sample.again)}),
        "a sandbox is never replaced silently",
    )
    must("leased" not in {box.name for box in await stage.driver.list()}, "`list` names the living only")


async def _delete_calls_off_a_fork(stage: Stage) -> None:
    await stage.driver.create("hasty", ttl_s=TTL_S)
    forking = asyncio.create_task(stage.driver.fork("hasty", {"b": Source(commit=stage.sample.slow)}))
    await asyncio.sleep(0.15)
    await stage.driver.delete("hasty")
    await _must_raise(SandboxGone, forking, "a fork of a sandbox that is deleted meanwhile raises SandboxGone")


async def _window_has_every_hop(stage: Stage) -> None:
    box = await stage.forked("watched", stage.sample.changed, "b")
    since = await stage.driver.cursor()
    for _ in range(5):
        await stage.words(box.urls["a"])
    window = await stage.driver.window("watched", since)
    served = [(hop.service, hop.served_by, hop.generation) for hop in window.hops]
    must(served.count(("b", "fork", 1)) == 5, "the window has one record for each request to the fork")
    must(served.count(("c", "baseline", None)) == 5, "and one for each hop past it")
    must({hop.key for hop in window.hops} == {box.key}, "its hops carry the key")
    must(window.dropped == 0, "nothing was dropped")
    later = await stage.driver.window("watched", await stage.driver.cursor())
    must(later.hops == (), "a window begins at its cursor")
    await stage.driver.delete("watched")


async def _window_has_failing_exchanges(stage: Stage) -> None:
    box = await stage.forked("failing", stage.sample.changed, "b")
    since = await stage.driver.cursor()
    await stage.http.get(box.urls["b"] + "/fail")
    window = await stage.driver.window("failing", since)
    bodies = [exchange.response_body for exchange in window.exchanges if exchange.service == "b"]
    must(len(bodies) == 1 and "asked to fail" in bodies[0], "a failing exchange is captured with its body")
    await stage.driver.delete("failing")


async def _planted_fault(stage: Stage) -> None:
    box = await stage.forked("faulty", stage.sample.changed, "b")
    await stage.driver.plant("faulty", "b")
    must((await stage.driver.get("faulty")).faults == ("b",), "a planted fault is shown")
    must(await stage.status(box.urls["b"]) == 503, "a planted fault answers 503")
    must(await stage.status(await stage.entry()) == 200, "for this key only")
    await stage.driver.plant("faulty", None)
    must(await stage.status(box.urls["b"]) == 200, "`None` takes the fault away")
    await stage.driver.delete("faulty")


async def _logs_are_each_ones_own(stage: Stage) -> None:
    box = await stage.forked("logging", stage.sample.changed, "b")
    await stage.words(box.urls["a"])
    mine = [line.text for line in await stage.driver.logs("b", sandbox="logging")]
    must("starting changed-b" in mine, "logs of a fork are its own, from its start")
    must("served / with changed-b" in mine, "and up to now")
    baselines = [line.text for line in await stage.driver.logs("b", sandbox=None)]
    must("starting b" in baselines and "starting changed-b" not in baselines, "the baseline's are the baseline's")
    must(await stage.driver.logs("b", sandbox=None, since=2e10) == (), "`since` leaves out what is older")
    await stage.driver.delete("logging")


async def _unknown_things_are_named(stage: Stage) -> None:
    await stage.driver.create("lost", ttl_s=TTL_S)
    error = await _must_raise(
        SandboxError,
        stage.driver.fork("lost", {"nobody": Source(commit=stage.sample.changed)}),
        "a service that does not exist raises",
    )
    must("nobody" in str(error), "and is named")
    await _must_raise(SandboxGone, stage.driver.get("never-made"), "a sandbox that was never made is gone, too")
    await stage.driver.delete("lost")


async def _gc_spares_what_is_owned(stage: Stage) -> None:
    await stage.driver.gc()
    box = await stage.forked("owned", stage.sample.changed, "b")
    must(await stage.driver.gc(dry_run=True) == (), "a dry run of `gc` names nothing that has an owner")
    must(await stage.driver.gc() == (), "`gc` removes nothing that has an owner")
    must((await stage.words(box.urls["a"]))[1] == "changed-b", "after `gc` a fork still serves")
    await stage.driver.delete("owned")


async def _nothing_is_up(stage: Stage) -> None:
    must(await stage.driver.baseline() is None, "before `up` there is no baseline")
    must(await stage.driver.list() == (), "and no sandbox")
    must(await stage.driver.gc(dry_run=True) == (), "and nothing to remove")
    await _must_raise(BaselineError, stage.driver.create("early", ttl_s=TTL_S), "nothing can be created")


async def _up_tells_how_far_it_is(stage: Stage) -> None:
    must(await stage.driver.starts() == (), "before `up` nothing starts")
    coming = asyncio.create_task(stage.driver.up(stage.sample.system, stage.sample.slow))
    seen: dict[str, list[str]] = {}
    while not coming.done():
        for start in await stage.driver.starts():
            seen.setdefault(start.service, []).append(start.state)
        await asyncio.sleep(0.01)
    await coming
    must(set(seen) == set(stage.sample.system.services), "while `up` is under way every service is told of")
    must(seen["b"][0] == "starting", "a service that is not ready is told to be starting")
    must(all(states == sorted(states, key=("starting", "ready").index) for states in seen.values()), "and moves on")
    must(await stage.driver.starts() == (), "after `up` nothing starts any more")
    await stage.driver.down()


async def _sick_baseline_is_named(stage: Stage) -> None:
    error = await _must_raise(
        BaselineError,
        stage.driver.up(stage.sample.system, stage.sample.crashing),
        "`up` raises BaselineError when a service does not get ready",
    )
    must("'b'" in str(error) and "no more tea" in str(error), "it names the service and shows its last lines")
    must(await stage.driver.baseline() is None, "and leaves nothing up")
    must(await stage.driver.starts() == (), "nor starting")


async def _down_ends_all(stage: Stage) -> None:
    baseline = await stage.driver.up(stage.sample.system, stage.sample.base)
    box = await stage.forked("swept", stage.sample.changed, "b")
    await stage.driver.down()
    for url in (baseline.urls["a"], box.urls["a"], f"http://{box.forks['b'].address}"):
        await _must_raise(httpx.TransportError, stage.http.get(url), "after `down` no port answers")


async def _baseline_lease_ends(stage: Stage) -> None:
    up = await stage.driver.up(stage.sample.system, stage.sample.base, lease_s=4.0)
    await stage.driver.create("orphan", ttl_s=TTL_S)
    await stage.driver.hold(lease_s=0.05)
    held = await stage.driver.baseline()
    must(held is not None and held.lease_ends == up.lease_ends, "nobody shortens what another one holds")

    async def down() -> bool:
        return await stage.driver.baseline() is None

    await _eventually(down, "a baseline whose lease has ended goes down")
    await _must_raise(SandboxGone, stage.driver.get("orphan"), "and its sandboxes with it")


SHARED: Final[tuple[Check, ...]] = (
    Check("`up` returns when every service is ready", _baseline_is_ready),
    Check("`up` again returns the running baseline, or raises for another", _up_again),
    Check("a sandbox without forks is served by the baseline", _empty_sandbox),
    Check("a fork serves requests with its key, and no others", _fork_serves_its_key_only),
    Check("many sandboxes fork the same service", _many_fork_the_same_service),
    Check("several services move together", _two_services_move_together),
    Check("a failed fork changes nothing", _failed_fork_changes_nothing),
    Check("a failed first fork leaves no sandbox", _failed_first_fork_leaves_nothing),
    Check("nobody has a sandbox before it is made", _nobody_has_it_before_it_is_made),
    Check("no request fails while a fork is updated", _update_without_a_failed_request),
    Check("after `delete` the key is refused", _refused_after_delete),
    Check("a lease that ends takes everything along", _lease_ends),
    Check("`delete` calls off a fork that is under way", _delete_calls_off_a_fork),
    Check("a window has every record of its time", _window_has_every_hop),
    Check("a window has the failing exchanges", _window_has_failing_exchanges),
    Check("a planted fault answers 503 for one key", _planted_fault),
    Check("logs are each one's own", _logs_are_each_ones_own),
    Check("what does not exist is named", _unknown_things_are_named),
    Check("`gc` spares what is owned", _gc_spares_what_is_owned),
)
ALONE: Final[tuple[Check, ...]] = (
    Check("before `up` there is nothing", _nothing_is_up),
    Check("`up` tells how far it is", _up_tells_how_far_it_is),
    Check("a baseline that does not come up is a BaselineError", _sick_baseline_is_named),
    Check("after `down` nothing is left", _down_ends_all),
    Check("a baseline's lease ends", _baseline_lease_ends),
)
