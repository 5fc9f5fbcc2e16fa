"""Scope: which services a change forks, and which paths end it."""

from __future__ import annotations

from typing import Any

from harness.repository import Change
from harness.settings import Settings
from harness.validation.facts import ScopeFacts
from harness.validation.scope import Links, protection, scope_of
from sandbox.service import Service, System

SYSTEM = System(
    "shop",
    "gateway",
    {
        "gateway": Service("gateway", cwd="services/gateway"),
        "users": Service("users", cwd="services/users", shared=("libs/money",)),
        "payments": Service("payments", cwd="services/payments", shared=("libs/money",)),
        "ledger": Service("ledger", cwd="ledger", url="http://127.0.0.1:9000"),
    },
)


def settings(**checks: Any) -> Settings:
    return Settings.model_validate(
        {
            "project": "shop",
            "baseline": {"entry": "gateway", "services": {"gateway": {"command": ["x"]}}},
            "checks": {"http": "checks/*.yaml", **checks},
        }
    )


def scope(*changes: str, allowed: tuple[str, ...] = ("users",), **checks: Any) -> ScopeFacts:
    kinds: dict[str, Any] = {"+": "added", "-": "deleted", "~": "modified"}
    found = [Change(change[1:], kinds[change[0]]) for change in changes]
    return scope_of(found, SYSTEM, protection(settings(**checks)), allowed)


def test_a_change_forks_its_service() -> None:
    assert scope("~services/users/app.py", "+services/users/new.py") == ScopeFacts(("users",))


def test_a_name_that_only_begins_alike_is_another_folder() -> None:
    assert scope("~services/users-old/app.py").outside == ("services/users-old/app.py",)


def test_a_shared_path_changes_every_service_that_uses_it() -> None:
    assert scope("~libs/money/m.py", allowed=("users", "payments")).services == ("users", "payments")
    assert scope("~libs/money/m.py", allowed=("users",)).outside == ("libs/money/m.py",)


def test_what_the_ticket_does_not_name_is_outside() -> None:
    found = scope("~services/users/app.py", "~services/gateway/app.py", "~README.md")
    assert found.outside == ("README.md", "services/gateway/app.py")


def test_without_named_services_any_may_change_and_the_rest_is_noted() -> None:
    found = scope("~services/gateway/app.py", "~README.md", "~ledger/x", allowed=())
    assert found == ScopeFacts(("gateway",), unjudged=("README.md", "ledger/x"))


def test_protected_paths() -> None:
    found = scope("~tests/a.py", "-tests/b.py", "+tests/deep/c.py", "+checks/d.yaml", "~spurline.yaml", "-tickets/t.md")
    assert found.altered == ("spurline.yaml", "tests/a.py", "tests/b.py", "tickets/t.md")
    assert found.added == ("checks/d.yaml", "tests/deep/c.py")
    assert found.outside == ()


def test_a_submodule_is_nobodys_code() -> None:
    found = scope_of([Change("services/users/lib", "modified", submodule=True)], SYSTEM, protection(settings()), ())
    assert (found.services, found.submodules) == ((), ("services/users/lib",))


def test_symlinks_of_services_that_lead_out_of_the_commit() -> None:
    links = {
        "services/users/a": "/opt/a.py",
        "services/users/b": "../../../b.py",
        "services/users/c": "../..c/x.py",
        "services/users/d": "../../README.md",
        "docs/e": "/opt/e",
    }
    changes = [Change(path, "added", link=link) for path, link in links.items()]
    found = scope_of(changes, SYSTEM, protection(settings()), ())
    assert found.leading_out == ("services/users/a", "services/users/b")
    assert (found.services, found.unjudged) == (("users",), ("docs/e",))


def test_what_stands_for_a_protected_folder_is_protected() -> None:
    assert scope("~tests").altered == ("tests",)


def test_a_symlink_protects_what_it_leads_to_but_for_a_services_own_code() -> None:
    links = {"tests": "qa/tests", "qa/tests/users.sql": "../../services/users/schema.sql", "tests/loop": "."}
    found = scope_of(
        [
            Change(path, "modified")
            for path in ("qa/tests/a.py", "qa/tests-old/a.py", "services/users/schema.sql", "qa/b")
        ],
        SYSTEM,
        protection(settings()),
        (),
        Links.of(links),
    )
    assert (found.altered, found.services) == (("qa/tests/a.py",), ("users",))
    assert found.unjudged == ("qa/b", "qa/tests-old/a.py")


def test_a_symlink_protects_also_where_the_whole_repository_is_one_service() -> None:
    system = System("shop", "all", {"all": Service("all", cwd=".")})
    found = scope_of([Change("qa/a.py", "modified")], system, protection(settings()), (), Links.of({"tests": "qa"}))
    assert found.altered == ("qa/a.py",)


def test_what_services_have_by_symlinks_is_theirs() -> None:
    links = {
        "services/gateway/common": "../../libs/common",
        "services/payments/common": "../users/common",
        "services/users/common": "../../libs/common",
        "services/users/root": "../..",
        "ledger/out": "/etc",
    }

    def found(path: str, *allowed: str) -> ScopeFacts:
        return scope_of([Change(path, "modified")], SYSTEM, protection(settings()), allowed, Links.of(links))

    assert found("libs/common/deep/x.py").services == ("gateway", "users", "payments")
    assert found("libs/common/x.py", "users").outside == ("libs/common/x.py",)
    assert found("libs/commons/x.py").unjudged == ("libs/commons/x.py",)


def test_symlinks_in_a_circle_come_to_an_end() -> None:
    names = Links.of({"a/x": "../b", "b/y": "../a"}).names("a/file")
    assert {"a/file", "b/y/file"} <= names


def test_files_of_checks_are_protected_wherever_they_lie() -> None:
    assert scope("~contracts/a.yaml", http="contracts/*.yaml", protected=[]).altered == ("contracts/a.yaml",)


def test_a_services_own_folder_of_tests_is_the_services() -> None:
    assert scope("~services/users/tests/test_a.py").services == ("users",)
    assert scope("~services/users/tests/t.py", protected=["tests/"]).altered == ("services/users/tests/t.py",)


def test_a_name_that_is_no_utf_8_is_shown_by_its_numbers() -> None:
    found = scope("+tests/\udcff.py", "~checks/\udcfe", "~é\udcff", "~services/users/\udcff")
    assert (found.added, found.altered) == (("tests/\\xff.py",), ("checks/\\xfe",))
    assert (found.outside, found.services) == (("é\\xff",), ("users",))


def test_a_rename_out_of_a_protected_folder_deletes_there() -> None:
    assert scope("-tests/a.py", "+services/users/a.py").altered == ("tests/a.py",)
