"""What runs inside LIBERO's own environment (`make libero-env`): numpy, h5py and libero.

`simulation.rollout` starts it by path; there it is the package ``libero_worker``, hence the
relative imports. `tasks`, `policy`, `noise` and `outcome` need numpy alone: both sides use them.
"""
