"""Where annotations come from: files, pairs, splits."""
