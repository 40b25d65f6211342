/**
 * Follows a stream of server-sent events for as long as the page lives.
 *
 * With fetch in place of EventSource, which can send no Authorization header and does not say why it failed.
 */

import { asProblem, send } from './api.mjs';

/** The daemon sends something every 15 s; without anything for this long it is lost. */
const SILENCE_MS = 40_000;
const SOON_MS = 300;
const SLOWEST_MS = 15_000;

/** @typedef {import('./api.mjs').Problem} Problem */

/** Splits the text of a stream into events (HTML standard, "Parsing an event stream"). */
export class EventParser {
    lastId = '';
    retry = 2_000;
    #rest = '';
    /** @type {{name: string, data: string[]}} */
    #event = { name: '', data: [] };

    /** Take the next piece of text. @returns {{name: string, data: string}[]} the events that end in it */
    push(/** @type {string} */ text) {
        /** @type {{name: string, data: string}[]} */
        const events = [];
        const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
        this.#rest = lines.pop() ?? '';
        for (const line of lines) {
            if (line === '') this.#finish(events);
            else this.#field(line);
        }
        return events;
    }

    /** Forget an event that was cut off. */
    reset() {
        this.#rest = '';
        this.#event = { name: '', data: [] };
    }

    #finish(/** @type {{name: string, data: string}[]} */ events) {
        const { name, data } = this.#event;
        if (data.length) events.push({ name: name || 'message', data: data.join('\n') });
        this.#event = { name: '', data: [] };
    }

    #field(/** @type {string} */ line) {
        const [, name, value] = line.match(/^([^:]*):? ?(.*)$/s) ?? ['', '', ''];
        if (name === 'event') this.#event.name = value;
        else if (name === 'data') this.#event.data.push(value);
        else if (name === 'id' && !value.includes('\0')) this.lastId = value;
        else if (name === 'retry' && /^\d+$/.test(value)) this.retry = Number(value);
    }
}

/** One stream, opened again whenever it ends. */
export class Stream {
    /**
     * How long nobody sees the page, in milliseconds, until its streams are let go: a browser opens no more
     * than six connections to a host, for all tabs together.
     */
    static hiddenFor = 2_000;

    #path;
    #query;
    #handlers;
    #parser = new EventParser();
    #failures = 0;
    /** @type {AbortController|null} */
    #abort = null;
    /** @type {number|undefined} */
    #timer;
    /** @type {AbortController|null} */
    #wakers = null;
    /** @type {number|undefined} */
    #hidden;
    #paused = false;
    #stopped = true;

    /**
     * @param {string} path
     * @param {object} handlers
     * @param {Record<string, (data: any) => void>} handlers.on by event name
     * @param {() => void} [handlers.onLive] events come, also again
     * @param {(wait: number, problem: Problem|null) => void} [handlers.onLost] the next try is in `wait` ms
     * @param {(problem: Problem) => void} [handlers.onRefused] trying again is useless
     */
    constructor(path, handlers, query = {}) {
        this.#path = path;
        this.#handlers = handlers;
        this.#query = query;
    }

    start() {
        this.stop();
        this.#stopped = false;
        this.#wakers = new AbortController();
        const { signal } = this.#wakers;
        addEventListener('online', () => this.hurry(), { signal });
        document.addEventListener('visibilitychange', () => this.#onVisibility(), { signal });
        // A page that is left may be kept, to come back to: with its connection, unless that is let go.
        addEventListener('pagehide', () => this.#pause(), { signal });
        addEventListener('pageshow', () => this.#resume(), { signal });
        this.#open();
    }

    stop() {
        this.#stopped = true;
        this.#wakers?.abort();
        this.#letGo();
    }

    /** Begin from nothing the next time: forget what was received. */
    forget() {
        this.#parser = new EventParser();
    }

    #letGo() {
        clearTimeout(this.#hidden);
        clearTimeout(this.#timer);
        this.#timer = undefined;
        this.#abort?.abort();
        this.#abort = null;
    }

    #onVisibility() {
        clearTimeout(this.#hidden);
        if (document.hidden) this.#hidden = setTimeout(() => this.#pause(), Stream.hiddenFor);
        else if (this.#paused) this.#resume();
        else this.hurry();
    }

    #pause() {
        this.#paused = true;
        this.#letGo();
    }

    #resume() {
        if (this.#paused) this.#open();
    }

    /** Try now, where the next try is awaited. */
    hurry() {
        if (this.#timer === undefined) return;
        clearTimeout(this.#timer);
        this.#timer = undefined;
        this.#open();
    }

    async #open() {
        this.#paused = false;
        const abort = new AbortController();
        this.#abort = abort;
        let problem = null;
        try {
            await this.#read(abort);
        } catch (error) {
            problem = asProblem(error);
        }
        if (this.#stopped || this.#abort !== abort) return;
        if (problem !== null && problem.status >= 400 && problem.status < 500 && problem.status !== 429) {
            this.stop();
            this.#handlers.onRefused?.(problem);
            return;
        }
        this.#failures += 1;
        // A daemon that restarts ends its streams, and is back at once.
        const wait =
            this.#failures === 1
                ? SOON_MS
                : Math.min(this.#parser.retry * 1.6 ** (this.#failures - 2), SLOWEST_MS) *
                  (0.8 + 0.4 * Math.random());
        this.#timer = setTimeout(() => this.hurry(), wait);
        this.#handlers.onLost?.(wait, problem);
    }

    async #read(/** @type {AbortController} */ abort) {
        /** @type {Record<string, string>} */
        const headers = { Accept: 'text/event-stream' };
        if (this.#parser.lastId) headers['Last-Event-ID'] = this.#parser.lastId;
        this.#parser.reset();
        let silence = setTimeout(() => abort.abort(), SILENCE_MS);
        try {
            const response = await send('GET', this.#path, {
                query: this.#query,
                headers,
                signal: abort.signal,
            });
            if (response.body === null) return;
            const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
            // An abort may not get as far as a body that is read: fetch of Node 18 forgets its signal.
            abort.signal.addEventListener('abort', () => reader.cancel().catch(() => {}));
            this.#handlers.onLive?.();
            for (;;) {
                const { value, done } = await reader.read();
                if (done) return;
                clearTimeout(silence);
                silence = setTimeout(() => abort.abort(), SILENCE_MS);
                for (const { name, data } of this.#parser.push(value)) {
                    this.#failures = 0;
                    this.#handlers.on[name]?.(JSON.parse(data));
                    if (abort.signal.aborted) return;
                }
            }
        } finally {
            clearTimeout(silence);
        }
    }
}
