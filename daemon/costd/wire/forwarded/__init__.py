"""What sidecars hand their hub, as bytes."""
