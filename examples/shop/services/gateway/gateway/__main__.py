from __future__ import annotations

import os

from chassis.client import Neighbour
from directory import Directory
from gateway.api import create_app
from gateway.catalogue import Catalogue

app = create_app(
    directory=Directory(Neighbour("users", os.environ.get("USERS_URL", "http://127.0.0.1:8081"))),
    catalogue=Catalogue(
        inventory=os.environ.get("INVENTORY_ADDRESS", "127.0.0.1:8091"),
        pricing=os.environ.get("PRICING_ADDRESS", "127.0.0.1:8092"),
    ),
    orders=Neighbour("orders", os.environ.get("ORDERS_URL", "http://127.0.0.1:8082")),
    loyalty=Neighbour("loyalty", os.environ.get("LOYALTY_URL", "http://127.0.0.1:8084")),
    legacy=Neighbour("legacy", os.environ.get("LEGACY_URL", "http://127.0.0.1:8086")),
)
app.serve(int(os.environ.get("PORT", "8080")))
