'use strict';

/** The least that node can do: `node bare_http.js PORT BYTES` answers with a constant JSON. */

const http = require('node:http');

const [port, size] = process.argv.slice(2).map(Number);
const body = JSON.stringify({ constant: 'x'.repeat(size - JSON.stringify({ constant: '' }).length) });

http.createServer((request, response) => {
    response.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': body.length });
    response.end(body);
}).listen(port, '127.0.0.1');
