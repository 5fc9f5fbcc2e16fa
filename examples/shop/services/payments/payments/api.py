"""The HTTP interface of the payments service."""

from __future__ import annotations

from typing import Any

from chassis.refusal import Refusal
from chassis.web import Answer, App, Request
from payments.ledger import Charge, Ledger

CURRENCIES = ("EUR", "GBP", "USD")


def create_app(ledger: Ledger) -> App:
    app = App("payments")

    @app.route("POST", "/charges")
    def charge(request: Request) -> Answer:
        body = request.json
        amount_cents = body.get("amount_cents")
        if not isinstance(amount_cents, int) or amount_cents <= 0:
            raise Refusal(400, "charge refused", f"amount_cents must be a positive integer, got {amount_cents!r}")
        customer = body.get("customer") or {}
        if not isinstance(customer.get("id"), int):
            raise Refusal(400, "charge refused", "customer.id must be an integer")
        currency = customer.get("currency")
        if currency not in CURRENCIES:
            raise Refusal(
                400,
                "charge refused",
                f"customer.currency must be one of {', '.join(CURRENCIES)}, got {currency!r}",
            )
        made = ledger.capture(int(body.get("order") or 0), customer["id"], amount_cents, currency)
        return Answer(_shown(made), 201)

    @app.route("GET", "/charges/{charge_id}")
    def show(request: Request, charge_id: str) -> Answer:
        found = ledger.find(charge_id)
        if found is None:
            raise Refusal(404, f"there is no charge {charge_id}")
        return Answer(_shown(found))

    @app.route("GET", "/charges")
    def of_customer(request: Request) -> Answer:
        customer = request.query.get("customer", "")
        if not customer.isdecimal():
            raise Refusal(400, "say whose charges: ?customer=ID")
        return Answer({"charges": [_shown(charge) for charge in ledger.of_customer(int(customer))]})

    return app


def _shown(charge: Charge) -> dict[str, Any]:
    return {
        "id": charge.id,
        "order": charge.order_id,
        "customer": charge.customer_id,
        "amount_cents": charge.amount_cents,
        "currency": charge.currency,
        "captured_on": charge.captured_on,
        "status": "captured",
    }
