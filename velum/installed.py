"""Files that the build put into the package: the worker program, the guests.

Owns where they are: beside the package's modules, or, in an editable install, which keeps what the
build made apart from the sources, in the `velum` folder of some entry of the import path.
"""

from __future__ import annotations

import sys
from pathlib import Path

from velum.errors import VelumError, code_of


def installed(*parts: str) -> Path:
    """The file at these parts below the package. Raises VelumError SYSTEM when it is nowhere."""
    places = [Path(__file__).parent, *(Path(entry, "velum") for entry in sys.path)]
    for place in places:
        file = place.joinpath(*parts)
        if file.is_file():
            return file
    name = "/".join(parts)
    raise VelumError(code_of("SYSTEM"), f"{name} is not in {places[0]}; reinstall velum")
