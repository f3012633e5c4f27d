"""What the daemon sends by itself: the calls to its hub."""
