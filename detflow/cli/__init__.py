"""The command line: one module for each group of commands. A command has a few lines.

Heavy imports stand inside the commands, so that help is instant.
"""
