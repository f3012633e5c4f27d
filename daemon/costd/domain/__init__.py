"""The pure part: values in, values out; no clock, no I/O, no logging."""
