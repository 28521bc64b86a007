"""The vocabulary every other part shares: actions, observations, codecs, robot contracts.

Needs neither torch nor ROS.
"""
