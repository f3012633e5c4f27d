// A Node client of the ingest API, in the shape its document gives; prints what it was answered.
const BASE = process.env.CODINGVIBEZ_BASE || "https://codingvibez.com";
const KEY = process.env.CODINGVIBEZ_API_KEY;

async function send(body) {
  const res = await fetch(`${BASE}/api/ingest`, {
    method: "POST",
    headers: { "Authorization": `Bearer ${KEY}`, "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  if (!res.ok) throw new Error(await res.text());
  return res.json();
}

const ingestCost = (service, amount, month, year, extra = {}) =>
  send({ type: "cost", service, data: { amount, month, year, ...extra } });

const ingestTokens = (service, month, year, tokens_used, extra = {}) =>
  send({ type: "tokens", service, data: { month, year, tokens_used, ...extra } });

const d = new Date();
const u = { prompt_tokens: 1200, completion_tokens: 300 };
const good = [
  await ingestCost("OpenAI", 125.5, 1, 2026),
  await ingestTokens("OpenAI", d.getMonth() + 1, d.getFullYear(), u.prompt_tokens + u.completion_tokens, {
    cost: 0.02,
    input_tokens: u.prompt_tokens,
    output_tokens: u.completion_tokens,
  }),
];
const bad = await ingestCost("OpenAI").catch((error) => JSON.parse(error.message));
console.log(JSON.stringify({ good, bad }));
