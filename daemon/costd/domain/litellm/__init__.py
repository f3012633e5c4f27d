"""How LiteLLM's price file is read, part by part; costd.domain.litellm_prices puts the parts together."""
