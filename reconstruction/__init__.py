"""Frames and robot state to metric 4D."""
