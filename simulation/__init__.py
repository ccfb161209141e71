"""Makes source data: small simulated twins of each source, with the truth kept beside them."""
