"""Preparing data: grey values, voxel sizes, and masks made from coordinates, maps or masks."""
