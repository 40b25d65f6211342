'use strict';

/** whatsapp-web.js as its own introduction shows it: `node ten_lines.js FOLDER '{"executablePath": …}'`. */

const { Client, LocalAuth } = require('whatsapp-web.js');

const [folder, puppeteer] = process.argv.slice(2);
const client = new Client({
    authStrategy: new LocalAuth({ dataPath: folder }),
    webVersionCache: { type: 'none' },
    puppeteer: JSON.parse(puppeteer),
});
client.on('qr', (text) => process.stdout.write(`${text}\n`));
client.on('ready', () => process.stdout.write('ready\n'));
client.initialize();
