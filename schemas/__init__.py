"""Contracts inside the factory; every other folder speaks in these."""
