"""`spurline request`: one request through the router, its answer, and the hops that it took."""

from __future__ import annotations

import asyncio
import json as jsonlib
import secrets
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from harness.cli import completion
from harness.cli.app import single
from harness.cli.asked import Asked, read_body, read_headers, read_method, read_path, read_service
from harness.cli.connection import live, named, not_up
from harness.cli.documents import hop_document
from harness.cli.hoptree import Node, RequestTrace, request_trace
from harness.cli.interrupts import complete
from harness.cli.options import Json, ServiceOption, duration, place_of, sandbox_name
from harness.cli.output import Output, Styled
from harness.project import Project
from sandbox.driver import Driver, Window
from sandbox.keys import masked
from tasks.errors import EnvironmentFault, UsageError

if TYPE_CHECKING:
    from httpx import Response

app = single()

_PROBE_TTL_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer, and what the router recorded."""

    response: Response
    took_s: float
    trace: RequestTrace
    dropped: int


@app.command("request")
def request(
    ctx: typer.Context,
    method: Annotated[str, typer.Argument(metavar="METHOD")],
    path: Annotated[str, typer.Argument(metavar="PATH")],
    sandbox: Annotated[
        str | None,
        typer.Option("--sandbox", "-S", metavar="NAME", autocompletion=completion.sandboxes, help="Ask this sandbox."),
    ] = None,
    service: ServiceOption = None,
    header: Annotated[
        list[str] | None, typer.Option("--header", "-H", metavar="'NAME: VALUE'", help="Send a header.")
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", "-d", metavar="BODY or @FILE", help="Send a body; @- reads stdin.")
    ] = None,
    timeout: Annotated[str, typer.Option("--timeout", metavar="TIME", help="How long to wait.")] = "30s",
    include: Annotated[bool, typer.Option("--include", "-i", help="Print status and headers before the body.")] = False,
    json: Json = False,
) -> None:
    """Send one request and show who served it, hop by hop.

    With --sandbox it goes through the sandbox's keyed ingress, else to the baseline. The body goes to stdout, the
    trace to stderr; with --json all of it is one object. Exit 0 when the status is below 400, else 1.
    """
    project = place_of(ctx).project()
    asked = Asked(
        method=read_method(method),
        path=read_path(path),
        service=read_service(service, project.settings.baseline),
        sandbox=sandbox_name(sandbox) if sandbox is not None else None,
        headers=read_headers(header or [], with_body=data is not None),
        body=read_body(data),
        timeout_s=duration(timeout, "--timeout"),
    )
    answered = complete(_ask(project, asked))
    _show(asked, answered, Output(json=json), include=include)
    if answered.response.status_code >= 400:
        raise typer.Exit(1)


async def _ask(project: Project, asked: Asked) -> Answered:
    async with live(project.root) as driver, _target(driver, asked) as (url, name):
        since = await driver.cursor()
        began = time.monotonic()
        response = await _send(url, asked)
        took_s = time.monotonic() - began
        window = await driver.window(name, since)
    return Answered(response, took_s, _trace_of(window, asked), window.dropped)


@asynccontextmanager
async def _target(driver: Driver, asked: Asked) -> AsyncIterator[tuple[str, str]]:
    """The URL to ask, and the name of the sandbox whose window shows the request.

    The baseline is asked without a key; a throw-away sandbox lends its window, in which unkeyed hops show too.
    """
    if asked.sandbox is not None:
        sandbox = await named(driver, asked.sandbox)
        yield sandbox.urls[asked.service], sandbox.name
        return
    baseline = await driver.baseline()
    if baseline is None:
        raise not_up()
    probe = await driver.create(f"request-{secrets.token_hex(4)}", ttl_s=_PROBE_TTL_S)
    try:
        yield baseline.urls[asked.service], probe.name
    finally:
        await driver.delete(probe.name)


async def _send(url: str, asked: Asked) -> Response:
    import httpx

    # No proxies and no redirects: what the service said is shown, not what somebody made of it.
    async with httpx.AsyncClient(trust_env=False, timeout=None) as client:
        try:
            # Around all of it: a service that goes on sending a little would outlast every limit on its parts.
            async with asyncio.timeout(asked.timeout_s):
                return await client.request(
                    asked.method, url.rstrip("/") + asked.path, headers=list(asked.headers), content=asked.body
                )
        except TimeoutError:
            raise EnvironmentFault(
                f"{asked.service} did not answer within {asked.timeout_s:g} s", hint="--timeout gives it more time"
            ) from None
        except httpx.InvalidURL as error:
            raise UsageError(
                f"the path {asked.path!r} cannot be requested: {error}", hint="quote it as in a URL"
            ) from None
        except httpx.HTTPError as error:
            what = str(error) or type(error).__name__
            raise EnvironmentFault(
                f"{asked.service} gave no answer: {what}", hint="`spurline baseline status` shows what is well"
            ) from None


def _trace_of(window: Window, asked: Asked) -> RequestTrace:
    return request_trace(window.hops if asked.sandbox is not None else (), window.strays, asked.digits)


def _show(asked: Asked, answered: Answered, out: Output, *, include: bool) -> None:
    if out.json:
        out.object(_document(asked, answered))
        return
    response = answered.response
    status = Styled(
        f"{response.status_code} {response.reason_phrase}".strip(), "bold green" if response.is_success else "bold red"
    )
    if include:
        out.line(status)
        for name, value in response.headers.multi_items():
            out.line(f"{name}: {value}")
        out.line()
    else:
        out.note(status)
    _show_body(response, out)
    _show_trace(asked, answered, out)


def _show_body(response: Response, out: Output) -> None:
    if not response.content:
        return
    if not out.terminal:
        # Somebody else's input: the bytes as they came.
        sys.stdout.flush()
        sys.stdout.buffer.write(response.content)
        sys.stdout.buffer.flush()
        return
    value = _decoded(response)
    if isinstance(value, str):
        out.line(value)
    else:
        out.line(jsonlib.dumps(value, indent=2, ensure_ascii=False))


def _show_trace(asked: Asked, answered: Answered, out: Output) -> None:
    out.note(f"\n{len(answered.trace.nodes)} hops, {answered.took_s * 1000:.0f} ms")
    keyed = asked.sandbox is not None
    for node in answered.trace.nodes:
        out.note(_hop_line(node, keyed=keyed))
    for lost in answered.trace.lost:
        out.warning(f"the key was lost at {lost.service}: it called {lost.callee} without it")
    if answered.trace.lost:
        out.note("hint: `spurline doctor` says what to do for a service that does not pass the key on")
    if answered.dropped:
        out.warning(f"{answered.dropped} records were dropped, so hops may be missing here")


def _hop_line(node: Node, *, keyed: bool) -> Styled:
    hop = node.hop
    who = f"fork g{hop.generation}" if hop.served_by == "fork" else hop.served_by
    grpc = f" (gRPC {hop.grpc_status})" if hop.grpc_status is not None else ""
    flags = f"  [{hop.flags}]" if hop.flags else ""
    key = "" if not keyed else f"  key {masked(hop.key)}" if hop.key else "  NO KEY"
    branch = "" if node.depth == 0 else "  " * (node.depth - 1) + "└ "
    style = "red" if hop.failed else "cyan" if hop.served_by == "fork" else ""
    line = f"  {branch}{hop.caller} → {hop.service}  {who}  {hop.method} {hop.path}"
    return Styled(f"{line}  {hop.status or 'no answer'}{grpc}  {hop.duration_ms:.1f} ms{key}{flags}", style)


def _document(asked: Asked, answered: Answered) -> dict[str, Any]:
    response = answered.response
    return {
        "sandbox": asked.sandbox,
        "service": asked.service,
        "method": asked.method,
        "path": asked.path,
        "status": response.status_code,
        "headers": dict(response.headers),
        "body": _decoded(response),
        "seconds": round(answered.took_s, 4),
        "hops": [{"depth": node.depth, **hop_document(node.hop)} for node in answered.trace.nodes],
        "lost": [{"service": lost.service, "callee": lost.callee} for lost in answered.trace.lost],
        "dropped": answered.dropped,
    }


def _decoded(response: Response) -> Any:
    """JSON as its value, text as text, anything else by its size."""
    try:
        text = response.content.decode()
    except UnicodeDecodeError:
        return f"[{len(response.content)} bytes that are no text]"
    try:
        return jsonlib.loads(text) if "json" in response.headers.get("content-type", "") else text
    except ValueError:
        return text
