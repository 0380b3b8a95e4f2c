"""Fine-tuning: ground truth, distance maps and patches."""
