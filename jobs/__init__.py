"""What one runs: the `robo4d` command line and the engines over one plan.

NumPy's linear algebra and software OpenGL read how many threads they may start once, when they are
loaded. A build's processes share the cores already, and its matrices are small: a second thread
spends more on waiting than it brings. So it is said here, before any module of this package imports
them; workers inherit it. Whoever sets one of these variables is left alone: a shard's bytes do not
depend on them (`pipeline.build` sees to that).
"""

import os

for _library in ("OPENBLAS", "OMP", "LP"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")
