// connect-redis: sessions of express in Redis, by cookie; their TTL, touching, ending, and listing.

import { RedisStore } from 'connect-redis';
import express from 'express';
import session from 'express-session';
import { once } from 'node:events';
import { createClient } from 'redis';
import { assert, done, url } from './scenario.mjs';

const client = await createClient({ url }).connect();
const store = new RedisStore({ client, prefix: 'sess:', ttl: 600 });
const app = express();
app.use(session({ store, secret: 'secret', resave: false, saveUninitialized: false }));
app.get('/count', (request, response) => {
    request.session.count = (request.session.count ?? 0) + 1;
    response.json({ count: request.session.count, id: request.session.id });
});
app.get('/leave', (request, response) => request.session.destroy(() => response.json({})));
const http = app.listen(0, '127.0.0.1');
await once(http, 'listening');
const base = `http://127.0.0.1:${http.address().port}`;

const first = await fetch(`${base}/count`);
const headers = { cookie: first.headers.get('set-cookie').split(';')[0] };
const { id } = await first.json();
assert.equal((await (await fetch(`${base}/count`, { headers })).json()).count, 2);
assert.equal((await (await fetch(`${base}/count`)).json()).count, 1);
const ttl = await client.ttl(`sess:${id}`);
assert.ok(ttl > 0 && ttl <= 600);
assert.equal(await store.length(), 2);
assert.ok((await store.ids()).includes(id));
assert.equal((await store.all()).find((each) => each.id === id).count, 2);
assert.equal((await store.get(id)).count, 2);
await fetch(`${base}/leave`, { headers });
assert.equal(await client.exists(`sess:${id}`), 0);
assert.equal((await (await fetch(`${base}/count`, { headers })).json()).count, 1);
await store.clear();
assert.equal(await store.length(), 0);
done();
