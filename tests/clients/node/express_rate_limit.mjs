// express-rate-limit with rate-limit-redis: counting by script, which it loads and calls by its digest.

import express from 'express';
import { rateLimit } from 'express-rate-limit';
import { once } from 'node:events';
import { RedisStore } from 'rate-limit-redis';
import { createClient } from 'redis';
import { assert, done, url } from './scenario.mjs';

const client = await createClient({ url }).connect();
const store = new RedisStore({ sendCommand: (...words) => client.sendCommand(words) });
const app = express();
app.use(rateLimit({ windowMs: 60000, limit: 3, standardHeaders: 'draft-7', legacyHeaders: false, store }));
app.get('/', (_request, response) => response.send('hello'));
const http = app.listen(0, '127.0.0.1');
await once(http, 'listening');
const ask = () => fetch(`http://127.0.0.1:${http.address().port}/`);

const answers = [];
for (let n = 0; n < 5; n += 1) answers.push(await ask());
assert.deepEqual(answers.map((answer) => answer.status), [200, 200, 200, 429, 429]);
assert.match(answers[0].headers.get('ratelimit'), /limit=3, remaining=2, reset=\d+/);
const [key] = await client.keys('rl:*');
assert.equal(await client.get(key), '5');
assert.ok((await client.pTTL(key)) > 0);
await store.resetKey(key.slice(3));
assert.equal((await ask()).status, 200);
await client.scriptFlush();
assert.equal((await ask()).status, 200);
done();
