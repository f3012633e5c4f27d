"""The doctor's checks of what costd stands on: folder, disk, clock, machine, ports."""
