"""Code generated from proto/costd/v1; regenerate with make proto, never edit."""
