"""The functions of the front door. `import detflow` gives them their public names."""
