INSERT INTO users VALUES
    (1, 'Grace', 'Hopper', 'grace@example.com', 'USD'),
    (2, 'Edsger', 'Dijkstra', 'edsger@example.com', 'EUR'),
    (3, 'Barbara', 'Liskov', 'barbara@example.com', 'USD'),
    (4, 'Konrad', 'Zuse', 'konrad@example.com', 'EUR'),
    (5, 'Radia', 'Perlman', 'radia@example.com', 'USD'),
    (6, 'Tony', 'Hoare', 'tony@example.com', 'GBP'),
    (7, 'Ada', 'Lovelace', 'ada@example.com', 'GBP');
