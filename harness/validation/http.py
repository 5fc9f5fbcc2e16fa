"""HTTP checks: one declarative request through the sandbox's ingress, and what must hold of the answer."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any, Final

import httpx
import jmespath
from jmespath.exceptions import JMESPathError

from harness.validation.results import CheckResult
from harness.validation.targets import Target
from sandbox.exchanges import body_text, redact, redact_headers
from sandbox.seen import Seen, message
from tasks.text import one_line
from tasks.ticket import HttpCheck, HttpExpectation

_BODY_LIMIT_BYTES: Final = 8 * 1024 * 1024
_SHOWN: Final = 160
_MISSING: Final = object()


def http_client() -> httpx.AsyncClient:
    """A client for HTTP checks: no proxies of the environment, no redirects, no connection kept from check to check."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    return httpx.AsyncClient(trust_env=False, follow_redirects=False, limits=limits, verify=False)


async def run_http(check: HttpCheck, target: Target, client: httpx.AsyncClient) -> CheckResult:
    """Send the request and compare. No answer within the time-out is `unjudged`, a wrong answer `fail`."""
    began = time.monotonic()

    def result(outcome: Any, detail: str = "", output: str = "", answer: str = "") -> CheckResult:
        spent_ms = round((time.monotonic() - began) * 1000)
        detail = one_line(target.without_key(redact(detail)), 400)
        return CheckResult(outcome, detail, (), output, spent_ms, seen=Seen(answer=answer))

    if (check.request.service or target.entry) not in target.urls:
        return result("unjudged", f"there is no service {check.request.service!r} to ask")
    try:
        async with asyncio.timeout(check.timeout):
            response, body = await _ask(check, target, client)
    except TimeoutError:
        return result("unjudged", f"no whole answer within {check.timeout:g} s")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return result("unjudged", f"no answer: {str(error) or type(error).__name__}")
    except _TooLongError:
        return result("unjudged", f"the answer is longer than {_BODY_LIMIT_BYTES} bytes")
    try:
        problems = list(_problems(check.expect, response, body))
    except RecursionError:
        problems = ["the answer is nested too deeply to be read"]
    whole = target.without_key(_whole(response, body))
    if not problems:
        return result("pass", answer=whole)
    answer = f"{response.status_code} {body.decode(errors='replace')}"
    return result("fail", "; ".join(problems), target.without_key(redact(answer[:2_000])), whole)


def mismatches(expected: Any, actual: Any, at: str = "body") -> Iterator[str]:
    """Where `actual` does not hold what `expected` says; objects match by key, lists by position (an empty one
    only itself), the rest exactly."""
    if isinstance(expected, dict):
        if not isinstance(actual, dict):
            yield _differs(at, expected, actual)
            return
        for key, value in expected.items():
            yield from mismatches(value, actual.get(key, _MISSING), f"{at}.{key}")
    elif isinstance(expected, list):
        if not isinstance(actual, list):
            yield _differs(at, expected, actual)
            return
        if not expected and actual:
            # Any list would do by position; whoever writes an empty one means it.
            yield _differs(at, expected, actual)
        for index, value in enumerate(expected):
            yield from mismatches(value, actual[index] if index < len(actual) else _MISSING, f"{at}[{index}]")
    elif isinstance(expected, bool) is not isinstance(actual, bool) or expected != actual:
        # In Python True equals 1; in JSON it does not.
        yield _differs(at, expected, actual)


class _TooLongError(Exception):
    pass


async def _ask(check: HttpCheck, target: Target, client: httpx.AsyncClient) -> tuple[httpx.Response, bytes]:
    request = check.request
    headers = httpx.Headers(request.headers)
    content: bytes | None = None
    if request.json_body is not None:
        content = json.dumps(request.json_body).encode()
        headers.setdefault("content-type", "application/json")
    elif request.body is not None:
        content = request.body.encode()
    url = target.url(request.service) + request.path
    body = b""
    async with client.stream(request.method, url, headers=headers, content=content, timeout=check.timeout) as response:
        async for part in response.aiter_bytes():
            body += part
            if len(body) > _BODY_LIMIT_BYTES:
                raise _TooLongError
    return response, body


def _problems(expect: HttpExpectation, response: httpx.Response, body: bytes) -> Iterator[str]:
    text = body.decode(errors="replace")
    if expect.status is not None and response.status_code != expect.status:
        yield f"expected status {expect.status}, got {response.status_code} ({one_line(text, _SHOWN) or 'no body'})"
    for name, value in expect.headers.items():
        if response.headers.get(name) != value:
            yield f"expected header {name}: {value!r}, got {response.headers.get(name)!r}"
    if expect.contains is not None and expect.contains not in text:
        yield f"expected {expect.contains!r} in the answer, got {one_line(text, _SHOWN)!r}"
    if expect.json_body is None and not expect.jmespath:
        return
    try:
        document = json.loads(body)
    except ValueError:
        yield f"expected JSON, got {one_line(text, _SHOWN)!r}"
        return
    if expect.json_body is not None:
        yield from mismatches(expect.json_body, document)
    for expression, expected in expect.jmespath.items():
        try:
            found = jmespath.search(expression, document)
        except JMESPathError as error:
            # The expression itself is sound, that was checked when it was read: the answer is of another shape.
            yield f"{expression}: does not apply to the answer: {one_line(str(error), _SHOWN)}"
            continue
        if not _same(expected, found):
            yield _differs(expression, expected, found)


def _whole(response: httpx.Response, body: bytes) -> str:
    """The answer as it is kept: status, headers, body; redacted."""
    text, _ = body_text(body)
    return f"{response.status_code}\n{message(redact_headers(response.headers.items()), text)}"


def _same(expected: Any, actual: Any) -> bool:
    return json.dumps(expected, sort_keys=True) == json.dumps(actual, sort_keys=True) or (
        not isinstance(expected, bool) and not isinstance(actual, bool) and bool(expected == actual)
    )


def _differs(at: str, expected: Any, actual: Any) -> str:
    got = "nothing" if actual is _MISSING else one_line(json.dumps(actual, ensure_ascii=False), _SHOWN)
    return f"{at}: expected {one_line(json.dumps(expected, ensure_ascii=False), _SHOWN)}, got {got}"
