"""costd: meters, prices and keeps what AI API calls cost, and says whether the next one may be made."""

__all__ = ["__version__"]


def __getattr__(name: str) -> str:
    """`__version__`, as it is installed: looked up when asked for, since that takes a command a tenth of its start."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

    try:
        return version("costd")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "0+unknown"
