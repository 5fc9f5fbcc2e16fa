"""The gRPC interface of the pricing service."""

from __future__ import annotations

import grpc

from contracts import pricing_pb2 as pb
from contracts.pricing_pb2_grpc import PricingServicer as Contract
from pricing.loyalty import LoyaltyClient
from pricing.prices import PriceList


class PricingServicer(Contract):
    def __init__(self, prices: PriceList, loyalty: LoyaltyClient) -> None:
        self._prices = prices
        self._loyalty = loyalty

    def Quote(self, request: pb.QuoteRequest, context: grpc.ServicerContext) -> pb.QuoteReply:
        wanted = [(line.sku, line.quantity) for line in request.lines]
        if not wanted or any(quantity <= 0 for _, quantity in wanted):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a quote needs lines with positive quantities")
        traceparent = dict(context.invocation_metadata()).get("traceparent")
        try:
            discount = self._loyalty.discount(request.user_id, traceparent)
            quote = self._prices.quote(wanted, discount.percent)
        except KeyError as unknown:
            context.abort(grpc.StatusCode.NOT_FOUND, f"there is no price for {unknown}")
        except OSError as problem:
            context.abort(grpc.StatusCode.UNAVAILABLE, f"no discount: {problem}")
        return pb.QuoteReply(
            lines=[
                pb.PricedLine(
                    sku=line.sku,
                    quantity=line.quantity,
                    unit_cents=line.unit_cents,
                    line_cents=line.line_cents,
                )
                for line in quote.lines
            ],
            goods_cents=quote.goods_cents,
            tier=discount.tier,
            discount_cents=quote.discount_cents,
            shipping_cents=quote.shipping_cents,
            total_cents=quote.total_cents,
        )
