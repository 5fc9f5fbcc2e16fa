CREATE TABLE tiers (
    name             TEXT PRIMARY KEY,
    min_points       INTEGER NOT NULL,
    discount_percent INTEGER NOT NULL
);

CREATE TABLE members (
    id     INTEGER PRIMARY KEY,
    points INTEGER NOT NULL CHECK (points >= 0)
);

CREATE TABLE rewards (
    code        TEXT PRIMARY KEY,
    name        TEXT NOT NULL,
    cost_points INTEGER NOT NULL
);
