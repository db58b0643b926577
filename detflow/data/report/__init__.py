"""The page about a dataset."""
