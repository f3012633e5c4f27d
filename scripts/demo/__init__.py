"""The demo: a hub and two sidecars on loopback, a link that is cut for a moment, and totals that agree afterwards."""
