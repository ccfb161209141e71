"""Exceptions of the published format.

Robo4dError
├── FormatError       the bytes are not what the format says (also a ValueError)
├── ShapeError        an array's shape or dtype is not the contract's (also a ValueError)
└── FieldAbsentError  the sample has no such field, and says why (also a KeyError)
"""


class Robo4dError(Exception):
    """Base of every error that this package raises on purpose."""


class FormatError(Robo4dError, ValueError):
    """A shard, index or member does not follow the format."""


class ShapeError(Robo4dError, ValueError):
    """An array does not have the shape, dtype or range its contract asks for."""


class FieldAbsentError(Robo4dError, KeyError):
    """A field was asked for that this sample does not have."""

    def __str__(self) -> str:  # KeyError would print the repr of the message
        return str(self.args[0])
