"""Training whose weights lie on parameter servers."""
