from __future__ import annotations

import os
from pathlib import Path

from chassis import rpc
from chassis.database import open_database
from contracts.pricing_pb2_grpc import add_PricingServicer_to_server
from pricing.loyalty import LoyaltyClient
from pricing.prices import PriceList
from pricing.servicer import PricingServicer

prices = PriceList(open_database("pricing", Path(__file__).parents[1]))
loyalty = LoyaltyClient(os.environ.get("LOYALTY_URL", "http://127.0.0.1:8084"))
rpc.serve(
    "pricing",
    int(os.environ.get("PORT", "8092")),
    lambda server: add_PricingServicer_to_server(PricingServicer(prices, loyalty), server),
)
