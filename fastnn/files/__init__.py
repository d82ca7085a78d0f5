"""Files of models: safetensors, believed only as far as they have been checked."""

from .models import read_metadata
from .safetensors import FileFormatError, parse_json, write_atomically

__all__ = ["FileFormatError", "parse_json", "read_metadata", "write_atomically"]
