"""Answers pip in maturin's place when blake3's source distribution is fetched (../../pypi.cmake).

Owns: the one hook of PEP 517 that pip calls to download. The metadata are in the distribution, so
neither maturin nor the Rust compiler that it would want is needed, and no code of the distribution
runs. pip calls hooks in the unpacked distribution's folder.
"""

from __future__ import annotations

import shutil
from email.parser import HeaderParser
from pathlib import Path


def prepare_metadata_for_build_wheel(
    metadata_directory: str, config_settings: object = None
) -> str:
    """Writes the distribution's metadata where pip wants them; the name of their folder."""
    metadata = Path("PKG-INFO")
    headers = HeaderParser().parsestr(metadata.read_text(encoding="utf-8"), headersonly=True)
    folder = f"{headers['Name']}-{headers['Version']}.dist-info"
    (Path(metadata_directory) / folder).mkdir()
    shutil.copy(metadata, Path(metadata_directory) / folder / "METADATA")
    return folder
