"""What the pages that detflow writes have in common: one file each, nothing fetched, nothing executed."""
