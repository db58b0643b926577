"""What a configuration file may say."""
