"""What the daemon does, independent of the door a request came through."""
