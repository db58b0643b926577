"""The records directory: TFRecord shards, manifest, and a judge of both."""
