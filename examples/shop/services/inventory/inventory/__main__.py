from __future__ import annotations

import os
from pathlib import Path

from chassis import rpc
from chassis.database import open_database
from chassis.rpc_tracing import TraceContext
from contracts.inventory_pb2_grpc import add_InventoryServicer_to_server
from inventory.servicer import InventoryServicer
from inventory.shelves import Shelves

shelves = Shelves(open_database("inventory", Path(__file__).parents[1]))
rpc.serve(
    "inventory",
    int(os.environ.get("PORT", "8091")),
    lambda server: add_InventoryServicer_to_server(InventoryServicer(shelves), server),
    interceptors=(TraceContext(),),
)
