'use strict';

/** Exit codes, as the unit file knows them. */
const EXIT = Object.freeze({
    stopped: 0,
    unexpected: 1,
    configuration: 2,
    loggedOut: 10,
    browserLost: 11,
    pageHung: 12,
    neverReady: 13,
    disconnected: 14,
});

module.exports = { EXIT };
