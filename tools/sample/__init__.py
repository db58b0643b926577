"""What tools/make_sample_dataset.py draws, writes and plants."""
