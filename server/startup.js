'use strict';

/**
 * The order of things while a server starts. Callers that called before it listened are answered first:
 * while a program is started, or a module loaded, nothing is answered.
 */

const { executionAsyncResource } = require('node:async_hooks');
const { setTimeout: pause } = require('node:timers/promises');

const { loadSmall } = require('./nursery');
const shortcuts = require('./shortcuts');

/** A call that came while this server started is read in the first turn of the event loop. */
const FIRST_CALL_MS = 5;
/** A caller that waited for the first answer has more to ask. */
const NEXT_CALL_MS = 5;
/** How long the library waits for the browser's start, if one is wanted: it starts while that is loaded. */
const BROWSER_MS = 150;
/** Modules that are needed only later are loaded early: the files of a running server may be replaced. */
const WANTED_LATE = ['./passkey', './passkey_routes', './snapshots'];

const kept = [];

/**
 * Let those who called while the server started have their answers.
 *
 * @param {Promise<unknown>} answered resolves with the first answer
 */
async function letFirstCallsPass(answered) {
    if (!shortcuts.startOrder) return;
    const called = await Promise.race([answered.then(() => true), pause(FIRST_CALL_MS, false)]);
    if (called) await pause(NEXT_CALL_MS);
}

/**
 * Keep one of the objects that `process.nextTick()` makes. If V8 finds none of them alive when it collects an
 * idle process, it forgets their shape, and makes each on a slow path from then on: that costs a fifth of the
 * requests per second (node 20.20).
 */
function keepTickShape() {
    if (!shortcuts.v8) return;
    process.nextTick(() => kept.push(executionAsyncResource()));
}

/**
 * Load what is quickly loaded while the browser starts, and give it time to.
 *
 * @param {Promise<unknown>} browserStarted
 */
async function loadBesideBrowser(browserStarted) {
    loadSmall(() => require('./numbers').loadPlans());
    if (shortcuts.startOrder) await Promise.race([browserStarted, pause(BROWSER_MS)]);
}

/** Load what is used only once somebody wants it. */
function loadWantedLate() {
    WANTED_LATE.forEach((file) => require(file));
}

module.exports = { keepTickShape, letFirstCallsPass, loadBesideBrowser, loadWantedLate };
