"""Where converted and compared images come from: audited datasets, and records."""
