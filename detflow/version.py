"""The version. It has a module of its own, so that nothing imports the front door for it."""

__version__ = "0.1.0"
