"""Measures how fast, how large and how good each format is, each in a process of its own."""
