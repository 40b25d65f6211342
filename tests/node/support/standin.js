'use strict';

/** The stand-in for WhatsApp Web and its phones, as a process beside the servers under test. */

const { spawn } = require('node:child_process');
const https = require('node:https');
const path = require('node:path');

const { ROOT, request, within } = require('./process');

const SCRIPT = path.join(ROOT, 'tests', 'standin', 'standin.js');
/** Which page it plays unless a test asks for another one. */
const SHAPE = process.env.STANDIN_SHAPE ?? 'today';

/** What it says about itself when it is there: the port that is asked, and arguments that a browser needs. */
/** @typedef {{control: number, browserArgs: string[], proxyArgs?: string[]}} Description */

class StandIn {
    #child;
    #control;

    /** @param {import('node:child_process').ChildProcess} child @param {Description} description */
    constructor(child, { control, browserArgs, proxyArgs = [] }) {
        this.#child = child;
        this.#control = control;
        /** What makes a server's browser meet the stand-in instead of WhatsApp. */
        this.env = { WAPORTD_BROWSER_ARGS: JSON.stringify(browserArgs) };
        /** The same by way of its proxy, which wants a password. */
        this.proxyEnv = { WAPORTD_BROWSER_ARGS: JSON.stringify(proxyArgs) };
    }

    /**
     * Do something on a phone, or to the site. Fails when the stand-in refuses.
     *
     * @param {string} name
     * @param {object} body
     */
    async command(name, body = {}) {
        const answer = await request(this.#control, 'POST', `/${name}`, { body });
        if (answer.status !== 200) throw new Error(`${name}: ${answer.status} ${answer.text}`);
        return answer.json;
    }

    async pages() {
        return (await request(this.#control, 'GET', '/pages')).json;
    }

    async sent() {
        return (await request(this.#control, 'GET', '/sent')).json;
    }

    async signals() {
        return (await request(this.#control, 'GET', '/signals')).json;
    }

    /** The HTML of the site's start page. */
    startPage() {
        const [, port] = this.env.WAPORTD_BROWSER_ARGS.match(/127\.0\.0\.1:(\d+)/) ?? [];
        return new Promise((resolve, reject) => {
            const options = { host: '127.0.0.1', port, path: '/', rejectUnauthorized: false };
            https
                .get(options, (response) => {
                    let text = '';
                    response.setEncoding('utf8').on('data', (chunk) => {
                        text += chunk;
                    });
                    response.on('end', () => resolve(text));
                })
                .on('error', reject);
        });
    }

    stop() {
        this.#child.kill();
    }
}

/** @param {string} data folder for the list of linked phones @param {string[]} args */
async function startStandIn(data, args = []) {
    const all = [SCRIPT, '--data', data, '--watch-parent', '--shape', SHAPE, ...args];
    const child = spawn(process.execPath, all, {
        stdio: ['ignore', 'pipe', 'inherit'],
    });
    /** @type {Promise<string>} */
    const line = new Promise((resolve, reject) => {
        let text = '';
        child.stdout.setEncoding('utf8').on('data', (chunk) => {
            text += chunk;
            if (text.includes('\n')) resolve(text.split('\n')[0]);
        });
        child.on('exit', (code) => reject(new Error(`the stand-in ended (${code})`)));
    });
    return new StandIn(child, JSON.parse(await within(line, 'the stand-in')));
}

module.exports = { StandIn, startStandIn };
