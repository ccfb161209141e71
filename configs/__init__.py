"""Data, no code: the default configuration, measured rates, example prices."""
