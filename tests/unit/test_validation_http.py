"""HTTP checks against a real server: what passes, what fails and in which words, what cannot be judged."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.validation.http import http_client, mismatches, run_http
from harness.validation.results import CheckResult, digest
from harness.validation.targets import Target
from tasks.ticket import HttpCheck

KEY = "0123456789abcdef"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen: list[dict[str, Any]] = []  # noqa: RUF012 - one server a test module

    def do_GET(self) -> None:
        if self.path == "/hang":
            self.server.hanging.wait(20)  # type: ignore[attr-defined]  # set by the fixture
            return
        if self.path == "/deep":
            self.answer(200, b"[" * 200_000)
            return
        status = 302 if self.path == "/moved" else 200
        self.answer(status, json.dumps({"items": [{"sku": "tea", "n": 1}], "ok": True, "key": KEY}).encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"] or 0))
        self.seen.append({"headers": dict(self.headers), "body": body.decode()})
        self.answer(400, b'{"error": "currency is required"}')

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("x-kind", "test")
        self.send_header("location", "/elsewhere")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.hanging = threading.Event()  # type: ignore[attr-defined]  # read by the handler
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.hanging.set()  # type: ignore[attr-defined]  # read by the handler
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with http_client() as client:
        yield client


def check(expect: dict[str, Any], **request: Any) -> HttpCheck:
    timeout = request.pop("timeout", 20.0)
    data = {"name": "c", "request": {"path": "/", **request}, "expect": expect, "timeout": timeout}
    return HttpCheck.model_validate(data)


async def run(url: str, client: httpx.AsyncClient, expect: dict[str, Any], **request: Any) -> CheckResult:
    return await run_http(check(expect, **request), Target("entry", {"entry": url}, KEY), client)


@pytest.mark.parametrize(
    "expect",
    [
        {"status": 200},
        {"json": {"ok": True, "items": [{"sku": "tea"}]}},
        {"jmespath": {"items[0].n": 1, "length(items)": 1, "nothing": None}},
        {"contains": "tea"},
        {"headers": {"X-Kind": "test"}},
    ],
)
async def test_passes(url: str, client: httpx.AsyncClient, expect: dict[str, Any]) -> None:
    result = await run(url, client, expect)
    assert (result.outcome, result.detail) == ("pass", "")


@pytest.mark.parametrize(
    ("expect", "words"),
    [
        ({"status": 201}, "expected status 201, got 200"),
        ({"json": {"ok": 1}}, "body.ok: expected 1, got true"),
        ({"json": {"items": [{}, {}]}}, "body.items[1]: expected {}, got nothing"),
        ({"json": {"gone": None}}, "body.gone: expected null, got nothing"),
        ({"json": []}, "body: expected [], got {"),
        ({"jmespath": {"items[0].sku": "coffee"}}, 'items[0].sku: expected "coffee", got "tea"'),
        ({"jmespath": {"ok": 1}}, "ok: expected 1, got true"),
        ({"contains": "coffee"}, "expected 'coffee' in the answer"),
        ({"headers": {"x-kind": "live"}}, "expected header x-kind: 'live', got 'test'"),
        ({"status": 201, "contains": "coffee"}, "got 200"),
    ],
)
async def test_fails_in_one_line(url: str, client: httpx.AsyncClient, expect: dict[str, Any], words: str) -> None:
    result = await run(url, client, expect)
    assert result.outcome == "fail"
    assert words in result.detail
    assert "\n" not in result.detail
    assert KEY not in result.detail + result.output


async def test_sends_what_it_says(url: str, client: httpx.AsyncClient) -> None:
    result = await run(
        url, client, {"status": 201}, method="POST", json={"user": 7}, headers={"x-a": "b", "content-type": "text/x"}
    )
    assert "currency is required" in result.detail
    seen = Handler.seen[-1]
    assert json.loads(seen["body"]) == {"user": 7}
    assert (seen["headers"]["x-a"], seen["headers"]["content-type"]) == ("b", "text/x")


async def test_redirects_are_answers(url: str, client: httpx.AsyncClient) -> None:
    assert (await run(url, client, {"status": 302, "headers": {"location": "/elsewhere"}}, path="/moved")).passed


async def test_proxies_of_the_environment_are_not_used(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with http_client() as client:
        assert (await run(url, client, {"status": 200})).passed


async def test_no_answer_cannot_be_judged(client: httpx.AsyncClient) -> None:
    result = await run("http://127.0.0.1:1", client, {"status": 200})
    assert result.outcome == "unjudged"
    assert "no answer" in result.detail


async def test_a_late_answer_cannot_be_judged(url: str, client: httpx.AsyncClient) -> None:
    result = await run(url, client, {"status": 200}, path="/hang", timeout="200ms")
    assert (result.outcome, result.detail) == ("unjudged", "no whole answer within 0.2 s")


async def test_an_answer_that_an_expression_cannot_apply_to_fails(url: str, client: httpx.AsyncClient) -> None:
    result = await run(url, client, {"jmespath": {"length(gone)": 1}})
    assert result.outcome == "fail"
    assert "length(gone): does not apply" in result.detail


async def test_an_unknown_service_cannot_be_judged(url: str, client: httpx.AsyncClient) -> None:
    assert (await run(url, client, {"status": 200}, service="nope")).outcome == "unjudged"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=10,
)


@settings(deadline=None)
@given(json_values)
def test_everything_holds_itself(value: Any) -> None:
    assert list(mismatches(value, value)) == []


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=2), json_values), st.dictionaries(st.text(max_size=2), json_values))
def test_a_larger_object_holds_a_smaller_one(small: dict[str, Any], more: dict[str, Any]) -> None:
    assert list(mismatches(small, {**more, **small})) == []


@settings(deadline=None)
@given(json_values, json_values)
def test_holding_one_another_is_being_equal(one: Any, other: Any) -> None:
    both = not list(mismatches(one, other)) and not list(mismatches(other, one))
    assert both == (json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True))


def test_an_empty_list_is_not_any_list() -> None:
    assert list(mismatches({"orders": []}, {"orders": []})) == []
    assert list(mismatches({"orders": []}, {"orders": [1]})) == ["body.orders: expected [], got [1]"]


async def test_an_answer_that_is_nested_too_deeply_fails(url: str, client: httpx.AsyncClient) -> None:
    result = await run(url, client, {"json": {"a": 1}}, path="/deep")
    assert (result.outcome, result.detail) == ("fail", "the answer is nested too deeply to be read")


def test_the_digest_is_of_what_is_asked() -> None:
    assert digest(check({"status": 200})) == digest(check({"status": 200}))
    assert digest(check({"status": 200})) != digest(check({"status": 201}))
    assert digest(check({"status": 200})) != digest(check({"status": 200}, method="HEAD"))
