"""Offline training of the Q-Transformer: targets, losses, sampling, the trainer and the vision warm-up."""
