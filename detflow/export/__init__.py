"""From the best checkpoint to artifacts that a runtime loads without detflow."""
