CREATE TABLE prices (
    sku        TEXT PRIMARY KEY,
    unit_cents INTEGER NOT NULL CHECK (unit_cents > 0)
);

CREATE TABLE shipping (
    only_row   INTEGER PRIMARY KEY CHECK (only_row = 1),
    flat_cents INTEGER NOT NULL
);
