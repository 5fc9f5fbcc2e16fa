INSERT INTO tiers VALUES ('basic', 0, 0), ('silver', 500, 5), ('gold', 2000, 10);

INSERT INTO members VALUES (1, 120), (2, 640), (3, 2400), (4, 10), (5, 900), (7, 560);

INSERT INTO rewards VALUES
    ('mug', 'A mug with your name', 900),
    ('sample', 'Three samples of new teas', 150),
    ('tour', 'A tour of the tea garden', 4000);
