"""Measurements of qt_ros. Each prints a table and writes JSON; none asserts a time. See docs/how-to/measure.md."""
