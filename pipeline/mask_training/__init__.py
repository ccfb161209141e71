"""What the mask network learns from, how it learns, and how it is handed on."""
