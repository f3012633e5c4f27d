// A client of the dashboard API, in the shape its document gives (without the types); prints what it was answered.
class CodingVibez {
  constructor(baseUrl, token) {
    this.baseUrl = baseUrl;
    this.token = token;
  }

  headers = () => ({ 'Authorization': `Bearer ${this.token}`, 'Content-Type': 'application/json' });

  async track(provider, model, inputTokens, outputTokens) {
    return fetch(`${this.baseUrl}/api/tokens/track`, {
      method: 'POST',
      headers: this.headers(),
      body: JSON.stringify({ provider, model, inputTokens, outputTokens, flush: true }),
    }).then(r => r.json());
  }

  async getCosts(provider, month, year) {
    return fetch(`${this.baseUrl}/api/costs/${provider}?month=${month}&year=${year}`, {
      headers: this.headers(),
    }).then(r => r.json());
  }
}

const cv = new CodingVibez(process.env.BASE, process.env.KEY);
const now = new Date();
const openai = { usage: { prompt_tokens: 1000, completion_tokens: 500 } };
const anthropic = { usage: { input_tokens: 800, output_tokens: 200 } };
console.log(JSON.stringify({
  openai: await cv.track('openai', 'gpt-4-turbo', openai.usage.prompt_tokens, openai.usage.completion_tokens),
  anthropic: await cv.track(
    'anthropic', 'claude-3-opus-20240229', anthropic.usage.input_tokens, anthropic.usage.output_tokens,
  ),
  costs: await cv.getCosts('openai', now.getUTCMonth() + 1, now.getUTCFullYear()),
}));
