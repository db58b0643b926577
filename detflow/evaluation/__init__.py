"""What `detflow evaluate` makes of truth and detections: an analysis, its files, plots and a page. No TensorFlow in here."""
