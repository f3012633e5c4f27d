// Calls of both SDKs, at the addresses that the environment names; prints what they returned, as JSON.
import Anthropic from '@anthropic-ai/sdk';
import OpenAI, { toFile } from 'openai';

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

async function failure(call) {
  try {
    return await call;
  } catch (error) {
    return [error.constructor.name, error.status, error.message, error.error, error.headers.get('x-odd')];
  }
}

const tool = { name: 'weather', description: 'Weather', parameters: { type: 'object', properties: {} } };
const claudeTool = { name: 'weather', description: 'Weather', input_schema: tool.parameters };
const file = await toFile(Buffer.from('{}\n'), 'in.jsonl');

// What is sold.
const results = {
  chat: await openai.chat.completions.create(chat),
  chatStreamed: await all(await openai.chat.completions.create({ ...chat, stream: true })),
  chatWithTool: await openai.chat.completions.create({
    ...chat, tools: [{ type: 'function', function: tool }], tool_choice: 'required',
  }),
  response: await openai.responses.create({ model: 'gpt-5', input: 'Hello!' }),
  responseStreamed: await all(await openai.responses.create({ model: 'gpt-5', input: 'Hello!', stream: true })),
  embeddings: await openai.embeddings.create({ model: 'text-embedding-3-small', input: 'Hello!' }),
  transcription: await openai.audio.transcriptions.create({ model: 'whisper-1', file }),
  message: await anthropic.messages.create(message),
  messageStreamed: await all(await anthropic.messages.create({ ...message, stream: true })),
  messageWithTool: await all(
    await anthropic.messages.create({ ...message, tools: [claudeTool], tool_choice: { type: 'any' }, stream: true }),
  ),
  finalMessage: await anthropic.messages.stream(message).finalMessage(),
};

// What is not.
const others = {
  models: (await openai.models.list()).data,
  file: await openai.files.create({ file, purpose: 'batch' }),
  content: await (await openai.files.content('file-1')).text(),
  moderation: await openai.moderations.create({ input: 'Hello!' }),
  count: await anthropic.messages.countTokens({ model: message.model, messages }),
  claudeModels: (await anthropic.models.list()).data,
  failures: [],
};
for (const status of [400, 401, 404, 429, 500, 529]) {
  others.failures.push(await failure(openai.chat.completions.create({ ...chat, model: `fails-${status}` })));
  others.failures.push(await failure(anthropic.messages.create({ ...message, model: `fails-${status}` })));
}
console.log(JSON.stringify({ results, others }));
