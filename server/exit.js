'use strict';

const { exit_codes: codes } = require('./contract.json');

/** Exit codes, as the unit file and waportd know them, too. */
const EXIT = Object.freeze({
    stopped: codes.stopped,
    unexpected: codes.unexpected,
    configuration: codes.configuration,
    loggedOut: codes.logged_out,
    browserLost: codes.browser_lost,
    pageHung: codes.page_hung,
    neverReady: codes.never_ready,
    disconnected: codes.disconnected,
});

module.exports = { EXIT };
