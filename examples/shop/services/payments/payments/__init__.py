"""Charges customers, and keeps the ledger of it."""
