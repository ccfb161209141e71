"""Looking at samples."""
