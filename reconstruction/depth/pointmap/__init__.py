"""The product's own depth network: pointmaps of a frame and of a reference frame of its clip."""
