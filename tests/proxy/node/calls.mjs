// Calls of both SDKs, at the addresses that the environment names; prints what they returned, as JSON.
import Anthropic from '@anthropic-ai/sdk';
import OpenAI from 'openai';

const { OPENAI_URL, ANTHROPIC_URL, OPENAI_KEY, HEADERS } = process.env;
const defaultHeaders = JSON.parse(HEADERS);
const openai = new OpenAI({ apiKey: OPENAI_KEY, baseURL: OPENAI_URL, defaultHeaders, maxRetries: 0 });
const anthropic = new Anthropic({ apiKey: 'sk-the-providers-own-key', baseURL: ANTHROPIC_URL, defaultHeaders, maxRetries: 0 });

const messages = [{ role: 'user', content: 'Hello!' }];
const chat = { model: 'gpt-4o', messages };
const message = { model: 'claude-opus-5', max_tokens: 100, messages };

async function all(stream) {
  const events = [];
  for await (const event of stream) events.push(event);
  return events;
}

const results = {
  chat: await openai.chat.completions.create(chat),
  chatStreamed: await all(await openai.chat.completions.create({ ...chat, stream: true })),
  response: await openai.responses.create({ model: 'gpt-5', input: 'Hello!' }),
  responseStreamed: await all(await openai.responses.create({ model: 'gpt-5', input: 'Hello!', stream: true })),
  embeddings: await openai.embeddings.create({ model: 'text-embedding-3-small', input: 'Hello!' }),
  message: await anthropic.messages.create(message),
  messageStreamed: await all(await anthropic.messages.create({ ...message, stream: true })),
  finalMessage: await anthropic.messages.stream(message).finalMessage(),
};
console.log(JSON.stringify(results));
