"""Proves that a format detects what its checkpoint does, in a process of its own."""
