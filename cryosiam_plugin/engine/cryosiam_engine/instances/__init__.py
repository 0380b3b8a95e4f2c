"""Instance segmentation: every particle its own number."""
