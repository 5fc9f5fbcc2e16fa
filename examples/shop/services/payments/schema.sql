CREATE TABLE charges (
    id           TEXT PRIMARY KEY,
    order_id     INTEGER NOT NULL,
    customer_id  INTEGER NOT NULL,
    amount_cents INTEGER NOT NULL CHECK (amount_cents > 0),
    currency     TEXT NOT NULL,
    captured_on  TEXT NOT NULL DEFAULT CURRENT_DATE
);

CREATE INDEX charges_by_customer ON charges (customer_id);
