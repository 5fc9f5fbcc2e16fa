"""Takes orders: the one service that knows all the others."""
