INSERT INTO orders VALUES
    (1001, 7, 'paid', 'GBP', 1880, 'seed-1', 'ch_seed_1', '2025-11-03 10:12:00'),
    (1002, 7, 'paid', 'GBP', 5290, 'seed-2', 'ch_seed_2', '2025-12-19 18:40:00'),
    (1003, 2, 'paid', 'EUR', 940, 'seed-3', 'ch_seed_3', '2026-01-07 08:05:00'),
    (1004, 4, 'paid', 'EUR', 1730, 'seed-4', 'ch_seed_4', '2026-02-11 21:30:00');

INSERT INTO order_lines VALUES
    (1001, 'tea-01', 1, 840), (1001, 'bisc-01', 2, 640),
    (1002, 'mug-01', 4, 4800),
    (1003, 'bisc-02', 1, 450),
    (1004, 'tea-02', 2, 1230);
