// socket.io: two servers that share rooms by pub/sub, an emitter that is no server; then two by a stream.

import { Emitter } from '@socket.io/redis-emitter';
import { createAdapter } from '@socket.io/redis-adapter';
import { createAdapter as createStreamsAdapter } from '@socket.io/redis-streams-adapter';
import Redis from 'ioredis';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { createClient } from 'redis';
import { Server } from 'socket.io';
import { io as connect } from 'socket.io-client';
import { assert, done, until, url } from './scenario.mjs';

async function start(adapter, options = {}) {
    const http = createServer();
    const io = new Server(http, { adapter, ...options });
    io.on('connection', (socket) => socket.join(socket.handshake.auth.room));
    await once(http.listen(0, '127.0.0.1'), 'listening');
    return { io, url: `http://127.0.0.1:${http.address().port}` };
}

async function join(server, room) {
    const socket = connect(server.url, { auth: { room }, transports: ['websocket'] });
    socket.got = [];
    socket.onAny((event, ...words) => socket.got.push([event, ...words]));
    await once(socket, 'connect');
    return socket;
}

async function shared([one, two]) {
    const a = await join(one, 'red');
    const b = await join(two, 'red');
    const c = await join(two, 'blue');
    await until(async () => (await one.io.fetchSockets()).length === 3, 'all sockets of both servers');
    one.io.emit('all', { n: 1 });
    one.io.to('red').emit('red', Buffer.from([0, 255]));
    await until(() => a.got.length === 2 && b.got.length === 2 && c.got.length === 1, 'events on both servers');
    assert.deepEqual(b.got[0].slice(0, 2), ['all', { n: 1 }]);
    assert.deepEqual([...new Uint8Array(b.got[1][1])], [0, 255]);
    two.io.in('blue').socketsJoin('green');
    await until(async () => (await one.io.in('green').fetchSockets()).length === 1, 'a room joined from afar');
    one.io.except('red').emit('rest');
    await until(() => c.got.length === 2, 'an event for the rest');
    one.io.on('question', (word, answer) => answer(`${word}!`));
    const answers = await new Promise((resolve, reject) => {
        two.io.serverSideEmit('question', 'there?', (error, words) => (error ? reject(error) : resolve(words)));
    });
    assert.deepEqual(answers, ['there?!']);
    one.io.in('blue').disconnectSockets();
    await once(c, 'disconnect');
    return { a, b };
}

const clients = [];
for (let n = 0; n < 2; n += 1) {
    const client = await createClient({ url }).connect();
    clients.push(await start(createAdapter(client, await client.duplicate().connect())));
}
const { a, b } = await shared(clients);
const emitter = new Emitter(new Redis(url));
emitter.to('red').emit('outside', 'hello');
await until(() => [a, b].every((socket) => socket.got.at(-1)[1] === 'hello'), 'an event from the emitter');

const streams = [];
const recovery = { connectionStateRecovery: { maxDisconnectionDuration: 60000 } };
for (let n = 0; n < 2; n += 1) streams.push(await start(createStreamsAdapter(new Redis(url)), recovery));
const { b: kept } = await shared(streams);
const id = kept.id;
// A broken connection comes back to the other server, with what it missed.
const gone = once(kept, 'disconnect');
kept.io.engine.close();
await gone;
streams[0].io.to('red').emit('missed', 1);
kept.io.uri = streams[0].url;
kept.connect();
await once(kept, 'connect');
assert.equal(kept.recovered, true);
assert.equal(kept.id, id);
await until(() => kept.got.at(-1)[0] === 'missed', 'what was missed');
done();
