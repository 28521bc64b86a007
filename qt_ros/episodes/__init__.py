"""What was lived: episodes, the bags they are recorded in and the stores they are trained from."""
