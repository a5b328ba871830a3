"""Scores of predictions on disk, whoever made them."""
