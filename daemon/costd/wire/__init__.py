"""The doors: everything that knows protobuf, HTTP or JSON on the wire."""
