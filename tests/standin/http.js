/** The little of HTTP that both sides of the stand-in need. */
'use strict';

const { once } = require('node:events');

const MAX_BODY_BYTES = 1024 * 1024;

class HttpError extends Error {
    constructor(status, message) {
        super(message);
        this.status = status;
    }
}

/**
 * A request listener from a handler that returns {json}, {type, body}, {type, length, source} (a stream that
 * is read) or {stream} (a function that writes and keeps open), with `headers` of its own; errors become
 * JSON.
 */
function answering(handle) {
    return async (request, response) => {
        try {
            const { json, type, body, length, source, stream, headers } = await handle(request);
            const sent = { 'Cache-Control': 'no-store', ...headers };
            for (const [name, value] of Object.entries(sent)) response.setHeader(name, value);
            if (stream) {
                response.writeHead(200, { 'Content-Type': 'application/x-ndjson' });
                response.flushHeaders();
                stream(response);
                return;
            }
            if (source) {
                response.writeHead(200, { 'Content-Type': type, 'Content-Length': length });
                source.pipe(response);
                response.on('close', () => source.destroy());
                return;
            }
            response.writeHead(200, { 'Content-Type': type ?? 'application/json' });
            response.end(body ?? JSON.stringify(json));
        } catch (error) {
            if (!(error instanceof HttpError)) console.error(error);
            response.writeHead(error.status ?? 500, { 'Content-Type': 'application/json' });
            response.end(JSON.stringify({ error: error.message }));
        }
    };
}

async function readJson(request) {
    let text = '';
    for await (const chunk of request.setEncoding('utf8')) {
        text += chunk;
        if (text.length > MAX_BODY_BYTES) throw new HttpError(413, `more than ${MAX_BODY_BYTES} bytes`);
    }
    try {
        return text === '' ? {} : JSON.parse(text);
    } catch (error) {
        throw new HttpError(400, `the body is not JSON: ${error.message}`);
    }
}

async function listen(server, port) {
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
    return server.address().port;
}

module.exports = { HttpError, answering, listen, readJson };
