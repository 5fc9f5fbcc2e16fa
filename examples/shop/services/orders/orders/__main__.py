from __future__ import annotations

import os
from pathlib import Path

from chassis.client import Neighbour
from chassis.database import open_database
from directory import Directory
from orders.api import create_app
from orders.checkout import Checkout
from orders.neighbours import Inventory, Notifications, Payments, Pricing
from orders.store import OrderStore

store = OrderStore(open_database("orders", Path(__file__).parents[1]))
checkout = Checkout(
    store=store,
    directory=Directory(Neighbour("users", os.environ.get("USERS_URL", "http://127.0.0.1:8081"))),
    pricing=Pricing(os.environ.get("PRICING_ADDRESS", "127.0.0.1:8092")),
    inventory=Inventory(os.environ.get("INVENTORY_ADDRESS", "127.0.0.1:8091")),
    payments=Payments(Neighbour("payments", os.environ.get("PAYMENTS_URL", "http://127.0.0.1:8083"))),
    notifications=Notifications(
        Neighbour("notifications", os.environ.get("NOTIFICATIONS_URL", "http://127.0.0.1:8085"), timeout_s=2.0)
    ),
)
create_app(store, checkout).serve(int(os.environ.get("PORT", "8082")))
