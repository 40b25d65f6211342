// A small web app in TypeScript, with the client that openapi-typescript and openapi-fetch make.

import createClient from 'openapi-fetch';

import type { components, paths } from './schema.js';

declare const process: { argv: [string, string, string, string]; exitCode: number };

type Problem = components['schemas']['Problem'];
type Options = components['schemas']['Options'];
type User = components['schemas']['User'];
/** Of the forms of an answer, this app reads these. */
type Json = 'application/json' | 'application/problem+json';

const [, , baseUrl, token] = process.argv;
const access = { baseUrl, headers: { Authorization: `Bearer ${token}` } };
const waportd = createClient<paths, Json>(access);
const pictures = createClient<paths, 'image/png' | 'application/problem+json'>(access);
const user = { path: { user: 'ts-1' } };

function explain(problem: Problem): string {
    switch (problem.code) {
        case 'unknown_user':
            return 'ensure the user first';
        case 'no_code':
        case 'already_linked':
            return `no code now: ${problem.cause ?? problem.detail}`;
        // @ts-expect-error: there is no such code
        case 'no_such_code':
            return '';
        default:
            return problem.hint ?? problem.detail;
    }
}

function check(condition: unknown, what: string): asserts condition {
    if (!condition) throw new Error(what);
}

async function ensure(): Promise<User> {
    const { data, error } = await waportd.PUT('/v1/users/{user}', {
        params: { ...user, query: { wait: 'listening', timeout: 20 } },
        body: { webhook_url: 'http://localhost:5002/webhook', memory_max: '512M', proxy: null, send_rate: 20 },
    });
    if (error) throw new Error(explain(error));
    return data;
}

async function showCode(): Promise<number> {
    for (let tries = 0; tries < 100; tries += 1) {
        const { data, error } = await pictures.GET('/v1/users/{user}/qr', {
            params: { path: { user: 'ts-1' }, query: { format: 'png' } },
            parseAs: 'blob',
        });
        if (data) {
            const picture: Blob = data;
            return picture.size;
        }
        check(error, 'neither a picture nor a problem');
        check(error.code === 'no_code', explain(error));
        await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error('no code was ever shown');
}

async function run(): Promise<void> {
    const ensured = await ensure();
    const port: number = ensured.port;
    const linkedTo: string | null | undefined = ensured.session?.phone_number;
    check(port > 0 && ensured.summary.state && ensured.own_webhook, `unexpected: ${linkedTo}`);

    const code = await waportd.GET('/v1/users/{user}/qr', { params: user });
    check(code.data, 'the state has an answer');
    const text: string | null = code.data.qr;
    const stage: 'opening' | 'asked' | 'given' | 'code' | 'failed' | undefined = code.data.passkey?.stage;
    check(code.data.user === 'ts-1', `another one's code: ${text} ${stage}`);
    check((await showCode()) > 100, 'the picture is one');

    const options: Options = { memory_max: 1024 ** 3, webhook_url: null };
    // @ts-expect-error: it is a number, a text or null
    options.memory_max = true;
    options.memory_max = '1G';
    const changed = await waportd.PATCH('/v1/users/{user}', { params: user, body: options });
    check(changed.data?.memory_max === 1024 ** 3, 'a text is a number of bytes');

    const read = await waportd.GET('/v1/users/{user}/messages', { params: { ...user, query: { limit: 10 } } });
    if (read.data) {
        const bodies: (string | undefined)[] = read.data.messages.map((message) => message.body);
        check(Array.isArray(bodies) && read.data.more === false, 'a page of messages');
    } else {
        check(read.error.code === 'not_linked', explain(read.error));
    }

    const sent = await waportd.POST('/v1/users/{user}/messages', {
        params: { ...user, header: { 'Idempotency-Key': 'order-4711' } },
        body: { to: '+55 11 98888-7777', text: 'Hello!' },
    });
    const outcome: 'sent' | 'pending' | 'failed' | undefined = sent.data?.outcome;
    check(outcome === 'pending' || sent.error?.code === 'not_linked', 'a message goes out, if a phone is linked');

    const unknown = await waportd.GET('/v1/users/{user}', { params: { path: { user: 'ts-nobody' } } });
    check(unknown.error && explain(unknown.error) === 'ensure the user first', 'nobody has that name');

    const deleted = await waportd.DELETE('/v1/users/{user}', { params: user });
    check(deleted.response.status === 204, 'the user is deleted');
}

run().catch((error: unknown) => {
    console.error(error);
    process.exitCode = 1;
});
