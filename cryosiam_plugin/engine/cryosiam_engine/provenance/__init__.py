"""Where a file comes from: keeping what a run was made with, and finding it again."""
