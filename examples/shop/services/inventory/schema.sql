CREATE TABLE products (
    sku      TEXT PRIMARY KEY,
    name     TEXT NOT NULL,
    category TEXT NOT NULL,
    stock    INTEGER NOT NULL CHECK (stock >= 0)
);

CREATE TABLE reservations (
    id       TEXT NOT NULL,
    sku      TEXT NOT NULL REFERENCES products (sku),
    quantity INTEGER NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (id, sku)
);
