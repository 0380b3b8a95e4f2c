"""Embeddings of sub-tomograms, and the map of them."""
