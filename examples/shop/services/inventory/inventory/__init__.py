"""What is on the shelves."""
