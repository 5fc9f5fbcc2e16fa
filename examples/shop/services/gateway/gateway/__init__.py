"""The one door of the shop."""
