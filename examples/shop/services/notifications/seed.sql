INSERT INTO templates VALUES
    ('order_paid', 'Thank you, {name}. Order {order} is paid: {total}.'),
    ('password_reset', 'Hello {name}, your new password waits behind this link: {link}');
