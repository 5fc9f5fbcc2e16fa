INSERT INTO prices VALUES
    ('bisc-01', 320),
    ('bisc-02', 450),
    ('mug-01', 1200),
    ('pot-01', 8900),
    ('tea-01', 840),
    ('tea-02', 615),
    ('tea-03', 1090);

INSERT INTO shipping VALUES (1, 490);
