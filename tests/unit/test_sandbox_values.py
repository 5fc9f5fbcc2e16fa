"""Keys, services, hops: the values of the sandbox package."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.driver import Sandbox, Source
from sandbox.hops import Hop, Lost, losses, trace
from sandbox.keys import RoutingKey, is_key, masked, new_key
from sandbox.service import CLIENT, Service, System, fill, misnamed

KEY = "0123456789abcdef"


def test_keys_are_fresh_and_masked() -> None:
    keys = {new_key() for _ in range(1000)}
    assert len(keys) == 1000
    assert all(is_key(key) for key in keys)
    assert masked(KEY) == "0123…"


@pytest.mark.parametrize("text", ["", KEY[:-1], KEY + "0", KEY.upper(), KEY + "\n", "g" * 16, "０" * 16])
def test_what_is_no_key(text: str) -> None:
    assert not is_key(text)


def test_a_sandbox_does_not_show_its_key() -> None:
    sandbox = Sandbox("s", RoutingKey(KEY), {}, {}, 0.0, 1)
    assert KEY not in repr(sandbox)


def test_a_source_is_a_commit_or_a_folder() -> None:
    for wrong in ({}, {"commit": "a", "folder": Path()}):
        with pytest.raises(ValueError, match="either"):
            Source(**wrong)  # type: ignore[arg-type]  # a table of wrong arguments has no one type


@pytest.mark.parametrize(
    ("cwd", "shared", "path", "owned"),
    [
        ("services/users", (), "services/users/app.py", True),
        ("services/users", (), "services/users", True),
        ("services/users", (), "services/users2/app.py", False),
        ("services/users", ("libs/money",), "libs/money/__init__.py", True),
        ("services/users", ("libs/money",), "libs/money.py", False),
        ("services/users", ("libs/one.py",), "libs/one.py", True),
        (".", (), "anything/at/all", True),
        ("./services/users/", (), "services/users/app.py", True),
        ("a", (), "b/a/x", False),
        (".hidden", (), ".hidden/x", True),
        (".hidden", (), "hidden/x", False),
    ],
)
def test_what_a_service_owns(cwd: str, shared: tuple[str, ...], path: str, owned: bool) -> None:
    service = Service("users", cwd=cwd, shared=shared)
    assert service.owns(path) is owned
    assert not replace(service, url="http://127.0.0.1:1").owns(path)


SHOP = System(
    "shop",
    "gateway",
    {
        "gateway": Service(
            "gateway",
            command=("run", "--port=${port}", "--users=${host:users}:${port:users}"),
            env={"L": "${url:ledger}"},
        ),
        "users": Service("users", cwd="users", env={"BACK": "${url:gateway}"}),
        "ledger": Service("ledger", cwd="users", url="tcp://127.0.0.1:9000"),
    },
)


def test_pairs_are_the_outside_first_then_who_names_whom() -> None:
    assert list(SHOP.pairs()) == [
        (CLIENT, "gateway"),
        (CLIENT, "users"),
        (CLIENT, "ledger"),
        ("gateway", "ledger"),
        ("gateway", "users"),
        ("users", "gateway"),
    ]
    assert SHOP.services["gateway"].neighbours == {"users", "ledger"}
    assert SHOP.owners("users/x") == {"gateway", "users"}


def test_placeholders_are_filled_and_the_rest_stays() -> None:
    text = "${port} ${url:users}/v1 ${host:users} ${port:users} ${HOME} $port ${url:}"
    filled = fill(text, lambda name: (f"h-{name}", 80), 4000)
    assert filled == "4000 http://h-users:80/v1 h-users 80 ${HOME} $port ${url:}"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("${url:users} ${port}", None),
        ("${HOME:-/root} ${X:1:2}", None),
        ("a ${url:user}", "${url:user}"),
        ("${urls:users}", "${urls:users}"),
        ("${URL:users}", "${URL:users}"),
        ("${url: users}", "${url: users}"),
        ("${url:users:80}", "${url:users:80}"),
        ("${url:", "${url:"),
        ("${port:}", "${port:}"),
    ],
)
def test_misspelt_placeholders_are_noticed(text: str, found: str | None) -> None:
    assert misnamed(text, {"users"}) == found


def hop(at: float, caller: str, service: str, key: str | None = KEY, **more: Any) -> Hop:
    values: dict[str, Any] = {
        "duration_ms": 10.0,
        "carriers": ("header",) if key else (),
        "trace_id": None,
        "served_by": "baseline",
        "generation": None,
        "upstream": "127.0.0.1:1",
        "method": "GET",
        "path": "/",
        "status": 200,
    }
    return Hop(at=at, caller=caller, service=service, key=key, **{**values, **more})


def test_a_trace_is_in_the_order_of_beginning_the_outer_first() -> None:
    outer, inner = hop(1.0, CLIENT, "a", duration_ms=50), hop(1.0, "a", "b", duration_ms=5)
    later = hop(1.01, "a", "c")
    assert trace([later, inner, outer]) == (outer, inner, later)
    assert trace([]) == ()


@pytest.mark.parametrize(
    ("stray", "lost"),
    [
        (hop(1.005, "legacy", "payments", None), (Lost("legacy", "payments"),)),
        (hop(1.0, "legacy", "payments", None), (Lost("legacy", "payments"),)),
        (hop(1.011, "legacy", "payments", None), ()),
        (hop(0.999, "legacy", "payments", None), ()),
        (hop(1.005, "other", "payments", None), ()),
        (hop(1.005, CLIENT, "legacy", None), ()),
    ],
)
def test_a_key_is_lost_by_who_was_asked_with_it_and_asks_without(stray: Hop, lost: tuple[Lost, ...]) -> None:
    keyed = [hop(0.9, CLIENT, "gateway", duration_ms=500), hop(1.0, "gateway", "legacy")]
    assert losses(keyed, [stray, stray]) == lost


def test_the_outside_loses_no_key() -> None:
    assert losses([hop(1.0, CLIENT, "gateway")], [hop(1.001, CLIENT, "gateway", None)]) == ()


@given(st.lists(st.tuples(st.integers(0, 50), st.sampled_from("abc"), st.sampled_from("abc")), max_size=30))
def test_losses_are_found_once_each(strays: list[tuple[int, str, str]]) -> None:
    keyed = [hop(0.0, CLIENT, "a", duration_ms=20.0)]
    found = losses(keyed, [hop(at / 1000, caller, service, None) for at, caller, service in strays])
    assert set(found) == {Lost("a", service) for at, caller, service in strays if caller == "a" and at <= 20}
    assert len(found) == len(set(found))


@pytest.mark.parametrize(
    ("more", "failed", "routed"),
    [
        ({}, False, True),
        ({"status": 404}, True, True),
        ({"status": 0, "flags": "DC"}, True, True),
        ({"status": 200, "grpc_status": 0}, False, True),
        ({"status": 200, "grpc_status": 5}, True, True),
        ({"status": 503, "flags": "UF,URX"}, True, False),
        ({"status": 503, "flags": "UH"}, True, False),
        ({"status": 421, "served_by": "refused"}, True, False),
        ({"status": 503, "served_by": "fault", "flags": "FI"}, True, True),
    ],
)
def test_how_a_hop_ended(more: dict[str, Any], failed: bool, routed: bool) -> None:
    one = hop(1.0, "a", "b", **more)
    assert (one.failed, one.routed) == (failed, routed)
    assert one.ended == pytest.approx(1.01)


def test_a_hop_as_a_line_masks_the_key() -> None:
    shown = hop(1.0, "a", "b", served_by="fork", generation=3).shown()
    assert shown == "a → b  GET /  200  fork g3  key 0123…"
    assert hop(1.0, "a", "b", None).shown().endswith("baseline  no key")
