CREATE TABLE orders (
    id          INTEGER PRIMARY KEY,
    user_id     INTEGER NOT NULL,
    status      TEXT NOT NULL,
    currency    TEXT NOT NULL,
    total_cents INTEGER NOT NULL,
    reservation TEXT NOT NULL,
    charge      TEXT NOT NULL,
    placed_at   TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
);

CREATE TABLE order_lines (
    order_id   INTEGER NOT NULL REFERENCES orders (id),
    sku        TEXT NOT NULL,
    quantity   INTEGER NOT NULL,
    line_cents INTEGER NOT NULL
);

CREATE INDEX orders_by_user ON orders (user_id);
CREATE INDEX lines_by_order ON order_lines (order_id);
