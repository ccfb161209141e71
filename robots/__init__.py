"""Robot descriptions, kinematics and rendering, on MuJoCo.

MuJoCo reads ``MUJOCO_GL`` once, when it is first imported, and fails to import at all if the
library it names is missing. So the choice is made here, before any module of this package
imports it.
"""

from robots._gl import choose_gl

choose_gl()
