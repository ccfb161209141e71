"""What the depth network learns from: takes filmed on every core, and batches cut out of them."""
