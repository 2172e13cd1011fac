"""A report on experiments as a folder of files that a browser opens from disk."""
