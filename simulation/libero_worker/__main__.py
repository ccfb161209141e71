"""Started by path, where the product is not installed: ``python simulation/libero_worker JOB``."""

import runpy
import sys
from pathlib import Path

# Last on the path: the other modules of simulation/ must shadow nothing of LIBERO's environment.
sys.path[0:1] = []
sys.path.append(str(Path(__file__).resolve().parent.parent))
runpy.run_module("libero_worker.run", run_name="__main__")
