CREATE TABLE users (
    id          INTEGER PRIMARY KEY,
    given_name  TEXT NOT NULL,
    family_name TEXT NOT NULL,
    email       TEXT NOT NULL UNIQUE,
    currency    TEXT NOT NULL CHECK (length(currency) = 3)
);
