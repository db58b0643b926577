"""Where initial weights come from, and which of them fit a network."""
