"""Measurements behind the figures of the README; `make bench` runs them all."""

import robots  # noqa: F401  # chooses OpenGL before anything imports mujoco
