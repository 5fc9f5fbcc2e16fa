"""Who our customers are."""
