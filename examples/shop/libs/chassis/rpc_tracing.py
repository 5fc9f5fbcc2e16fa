"""The gRPC interceptor that lets a servicer work inside its caller's trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc

from chassis import telemetry


class TraceContext(grpc.ServerInterceptor):
    """Wraps unary methods; streaming ones pass unchanged (the shop has none)."""

    def intercept_service(
        self, continuation: Callable[[Any], Any], details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler | None:
        handler = continuation(details)
        if handler is None or handler.unary_unary is None:
            return handler

        def traced(request: Any, context: grpc.ServicerContext) -> Any:
            with telemetry.incoming(dict(details.invocation_metadata)):
                return handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(traced, handler.request_deserializer, handler.response_serializer)
