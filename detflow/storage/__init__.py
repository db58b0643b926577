"""Folders on this machine, on a shared file system, or in an object store that a URL names."""
