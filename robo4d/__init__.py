"""Read Robo4D shards: metric 4D robot clips, by index, key or stream.

>>> import robo4d
>>> data = robo4d.open("out/droid")
>>> clip = data[0]
>>> clip.rgb, clip.depth, clip.pointmap("base"), clip.meta["instructions"]

The tars are plain webdataset: ``WebDataset(url).decode(robo4d.decode_member)`` streams them.
"""

from robo4d._arrays import depth_bound
from robo4d._errors import FieldAbsentError, FormatError, Robo4dError, ShapeError
from robo4d.reader import Dataset, Sample
from robo4d.reader import open_dataset as open
from robo4d.sample import FIELDS, decode_member

__version__ = "0.1.0"

__all__ = [
    "FIELDS",
    "Dataset",
    "FieldAbsentError",
    "FormatError",
    "Robo4dError",
    "Sample",
    "ShapeError",
    "__version__",
    "decode_member",
    "depth_bound",
    "open",
]
