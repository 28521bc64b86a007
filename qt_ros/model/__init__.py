"""The network: vision, language, Transformer, Q-values per action bin, and strict checkpoints. Imports no ROS."""
