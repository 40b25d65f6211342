'use strict';

/** Preloaded into a server: rejects a promise unwatched once the file REJECT_WHEN_EXISTS is there. */

const fs = require('node:fs');

const watching = setInterval(() => {
    if (!fs.existsSync(process.env.REJECT_WHEN_EXISTS ?? '')) return;
    clearInterval(watching);
    Promise.reject(new Error('a fault from outside'));
}, 50).unref();
