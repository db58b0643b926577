"""Trackers of experiments: what tells MLflow, W&B and the like about a run."""
