'use strict';

/**
 * What the check of WhatsApp's page costs: `node --expose-gc surface_check.js ROUNDS PUPPETEER_OPTIONS`.
 * Prints `{"boot", "main": [ms, …], "memory": [bytes, …]}`: each part as the server waits for it, in a page
 * that was just loaded, and what both leave in page and server.
 */

const puppeteer = require('puppeteer');

const { prepareDocument } = require('../server/compatibility');

const SITE = 'https://web.whatsapp.com/';
const [rounds, options] = process.argv.slice(2);

/** Bytes that this process has in use. */
function ownMemory() {
    global.gc();
    return process.memoryUsage().heapUsed;
}

/** Bytes that the page has in use. */
async function memoryOf(devtools) {
    await devtools.send('HeapProfiler.collectGarbage');
    return (await devtools.send('Runtime.getHeapUsage')).usedSize;
}

async function measure(page) {
    const before = ownMemory();
    const { inspect, missingOf, wantedOf } = require('../server/surface_check');
    const check = async (part) => {
        const began = performance.now();
        const seen = await page.evaluate(inspect, wantedOf(part));
        const missing = missingOf(part, seen);
        return { took: performance.now() - began, missing };
    };
    const devtools = await page.createCDPSession();
    const result = { boot: [], main: [], memory: [] };
    const kept = [await check('boot'), await check('main')];
    const server = ownMemory() - before;
    for (let round = 0; round < Number(rounds); round += 1) {
        await page.goto(SITE);
        await page.waitForFunction('window.Debug?.VERSION');
        const empty = await memoryOf(devtools);
        for (const part of ['boot', 'main']) {
            kept.push(await check(part));
            result[part].push(kept.pop().took);
        }
        result.memory.push((await memoryOf(devtools)) - empty + server);
    }
    return result;
}

(async () => {
    const browser = await puppeteer.launch(JSON.parse(options));
    const [page] = await browser.pages();
    await page.evaluateOnNewDocument(prepareDocument, '');
    await page.goto(SITE);
    await page.waitForFunction('window.Debug?.VERSION');
    process.stdout.write(JSON.stringify(await measure(page)));
    await browser.close();
})();
