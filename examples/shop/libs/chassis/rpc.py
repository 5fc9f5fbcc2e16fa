"""gRPC in and out, inside the trace of the request that is being answered."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from chassis.refusal import Refusal
from chassis.stopping import wait_for
from contracts import health_pb2, health_pb2_grpc

_LOOPBACK_ONLY = (("grpc.enable_http_proxy", 0),)
_HTTP_STATUS = {
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.INVALID_ARGUMENT: 422,
    grpc.StatusCode.FAILED_PRECONDITION: 409,
    grpc.StatusCode.UNAVAILABLE: 503,
}


class _Health(health_pb2_grpc.HealthServicer):
    def Check(self, request: Any, context: grpc.ServicerContext) -> Any:
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)


def serve(
    name: str,
    port: int,
    add: Callable[[grpc.Server], None],
    interceptors: tuple[grpc.ServerInterceptor, ...] = (),
) -> None:
    """Serve what `add` registers, and the health service, on loopback until SIGTERM or Ctrl-C."""
    stops = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stops)  # before there are threads, so that the signal waits for us
    server = grpc.server(ThreadPoolExecutor(max_workers=16), interceptors=interceptors)
    add(server)
    health_pb2_grpc.add_HealthServicer_to_server(_Health(), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    print(f"{name}: listening on {port}", file=sys.stderr, flush=True)
    wait_for(stops)
    server.stop(grace=2).wait()


def channel(target: str) -> grpc.Channel:
    """A channel to `host:port`; it connects when it is first used."""
    return grpc.insecure_channel(target, options=_LOOPBACK_ONLY)


def call(method: Callable[..., Any], request: Any, metadata: dict[str, str], timeout_s: float = 10.0) -> Any:
    """One unary call; a gRPC error refuses the request at hand with the HTTP status that fits."""
    try:
        return method(request, timeout=timeout_s, metadata=tuple(metadata.items()))
    except grpc.RpcError as problem:
        code, details = problem.code(), problem.details()
        raise Refusal(_HTTP_STATUS.get(code, 502), details or "a neighbour failed", f"gRPC {code.name}") from problem
