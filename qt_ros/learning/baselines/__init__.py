"""The rivals of the Q-Transformer, one file each, on its backbone, data and budget."""
