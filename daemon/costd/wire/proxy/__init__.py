"""The proxies: a provider's API with costd in between, in the provider's own forms."""
