'use strict';

/**
 * A web app that takes messages of page_traffic.js: `node web_app.js PORT`. It works 30 s for those of the
 * slow chat. `GET /` shows how many milliseconds each of the others was under way, and how many seconds
 * passed from the first to the last; `GET /forget` shows it for the last time.
 */

const http = require('node:http');

const SLOW_CHAT = '5521999999999@c.us';
const SLOW_MS = 30_000;

let took = [];
let times = [];

function take(body) {
    const event = JSON.parse(body);
    if (event.chat.id === SLOW_CHAT) return SLOW_MS;
    const now = process.hrtime.bigint();
    took.push(Number(now - BigInt(event.body.split(' ')[0])) / 1e6);
    times = [times[0] ?? performance.now(), performance.now()];
    return 0;
}

http.createServer((request, response) => {
    if (request.method === 'GET') {
        const body = JSON.stringify({ took, seconds: times.length === 0 ? 0 : (times[1] - times[0]) / 1000 });
        if (request.url === '/forget') [took, times] = [[], []];
        response.end(body);
        return;
    }
    const chunks = [];
    request.on('data', (chunk) => chunks.push(chunk));
    request.on('end', () => {
        const ms = take(Buffer.concat(chunks));
        if (ms === 0) response.end();
        else setTimeout(() => response.end(), ms);
    });
}).listen(Number(process.argv[2]), '127.0.0.1');
