// What the JavaScript scenarios share: where the server is, waiting for a condition, and the end.

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

export const host = process.env.REDIS_HOST;
export const port = Number(process.env.REDIS_PORT);
export const url = process.env.REDIS_URL;
export { assert, sleep };

// The first result of `condition` that is true; it is asked until then.
export async function until(condition, what, seconds = 60) {
    const deadline = Date.now() + seconds * 1000;
    for (;;) {
        const result = await condition();
        if (result) return result;
        assert.ok(Date.now() < deadline, `in vain: ${what}`);
        await sleep(20);
    }
}

// Libraries leave timers and sockets behind; a scenario ends when it says so.
export function done() {
    console.log('ok');
    process.exit(0);
}
