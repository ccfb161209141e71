"""From a plan to verified shards."""
