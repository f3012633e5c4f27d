"""Speed and memory of the daemon, each beside a yardstick measured in the same run: `python -m bench`."""
