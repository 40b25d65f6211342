'use strict';

/**
 * V8's nursery, which grows where much is allocated and little kept, and stays so large: to 32 MiB and more,
 * of a process that has 60. With a small one for good a third fewer requests a second are answered, so it is
 * kept small only while such work is done.
 *
 * Not by a flag of the program: with any of them V8 takes nothing that node brings along compiled, and it
 * takes a fifth longer until this server answers.
 */

const v8 = require('node:v8');
const vm = require('node:vm');

const shortcuts = require('./shortcuts');

/** By what factor V8 grows it by default. */
const USUAL_GROWTH = 2;

/** V8 leaves some 32 MiB of buffers in it before it collects: it is asked to after so many bytes. */
const TIDY_BYTES = 4 * 1024 * 1024;

let works = 0;
/** @type {((options: {type: 'minor'}) => void)|null} */
let collect = null;

const setGrowth = (/** @type {number} */ factor) => {
    if (shortcuts.v8) v8.setFlagsFromString(`--semi-space-growth-factor=${factor}`);
};

/** Keep the nursery small. @returns {() => void} ends that, once all others that wanted it are done, too */
function keepSmall() {
    if (works === 0) setGrowth(1);
    works += 1;
    let isOver = false;
    return () => {
        if (isOver) return;
        isOver = true;
        works -= 1;
        if (works === 0) setGrowth(USUAL_GROWTH);
    };
}

/**
 * Load something large without the memory that it takes for a moment.
 *
 * @template Loaded
 * @param {() => Loaded} load
 * @returns {Loaded}
 */
function loadSmall(load) {
    const done = keepSmall();
    try {
        return load();
    } finally {
        done();
    }
}

function tidy() {
    if (!shortcuts.v8) return;
    if (collect === null) {
        v8.setFlagsFromString('--expose-gc');
        collect = vm.runInNewContext('gc');
    }
    collect?.({ type: 'minor' });
}

/**
 * Yield the pieces of a file, as they come, and leave no more of them lying about than a few MiB.
 *
 * @param {AsyncIterable<Buffer>|Iterable<Buffer>} pieces
 */
async function* tidily(pieces) {
    let lying = 0;
    for await (const piece of pieces) {
        lying += piece.length;
        if (lying >= TIDY_BYTES) {
            lying = 0;
            tidy();
        }
        yield piece;
    }
}

module.exports = { keepSmall, loadSmall, tidily };
