"""costd: meters, prices and keeps what AI API calls cost, and says whether the next one may be made."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("costd")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"

__all__ = ["__version__"]
