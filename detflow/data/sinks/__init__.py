"""Writes images and their objects in the dialects that other tools read."""
