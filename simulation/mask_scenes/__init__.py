"""Random scenes in which a robot's silhouette is known, which the mask network learns from.

They are `depth_scenes`' twins, made stranger: photographs on surfaces and behind windows, other
colours of the robot, things fastened to its hand, cables.
"""
