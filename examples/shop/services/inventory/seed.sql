INSERT INTO products VALUES
    ('bisc-01', 'Shortbread', 'biscuits', 400000),
    ('bisc-02', 'Amaretti', 'biscuits', 400000),
    ('mug-01', 'Mug', 'things', 120000),
    ('pot-01', 'Cast iron pot', 'things', 0),
    ('tea-01', 'Darjeeling', 'tea', 900000),
    ('tea-02', 'Assam', 'tea', 900000),
    ('tea-03', 'Sencha', 'tea', 900000);
