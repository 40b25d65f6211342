'use strict';

/**
 * What systemd does with notifications. Node has no datagram sockets, so a few lines of Python receive them.
 */

const { spawn } = require('node:child_process');
const path = require('node:path');

const { scratch, within } = require('./process');

const RECEIVER = `
import socket, sys
receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
receiver.bind(sys.argv[1])
print("bound", flush=True)
while True:
    print(receiver.recv(65536).decode().replace("\\n", "|"), flush=True)
`;

/**
 * Receive notifications.
 *
 * @param {import('node:test').TestContext} t
 * @returns {Promise<{socket: string, lines: string[], until: (text: string) => Promise<void>}>}
 *   `until(text)` resolves when a notification holds the text; the assignments of one notification are
 *   separated by |
 */
async function receiver(t) {
    const socket = path.join(scratch(t), 'notify');
    const child = spawn('/usr/bin/python3', ['-c', RECEIVER, socket], {
        stdio: ['ignore', 'pipe', 'inherit'],
    });
    t.after(() => child.kill());
    /** @type {string[]} */
    const lines = [];
    /** @type {Set<() => void>} */
    const looks = new Set();
    child.stdout.setEncoding('utf8').on('data', (text) => {
        lines.push(...text.split('\n').filter(Boolean));
        for (const look of looks) look();
    });
    const until = (/** @type {string} */ wanted) => {
        /** @type {Promise<void>} */
        const seen = new Promise((resolve) => {
            const look = () => lines.some((line) => line.includes(wanted)) && resolve();
            looks.add(look);
            look();
        });
        return within(seen, () => `${wanted} among the notifications ${JSON.stringify(lines)}`);
    };
    await until('bound');
    return { socket, lines, until };
}

module.exports = { receiver };
