CREATE TABLE templates (
    name TEXT PRIMARY KEY,
    text TEXT NOT NULL
);

CREATE TABLE messages (
    id       INTEGER PRIMARY KEY,
    receiver TEXT NOT NULL,
    template TEXT NOT NULL REFERENCES templates (name),
    text     TEXT NOT NULL
);

CREATE INDEX messages_by_receiver ON messages (receiver);
