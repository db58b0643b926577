"""Image files: their format, their pixels, small copies, and near duplicates."""
