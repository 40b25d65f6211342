'use strict';

/** tests/light_server.js with a page that knows nobody, and that can be asked for everything. */

const { LightClient, runLight } = require('../light_server');

const NOT_THERE = { code: 'no_such_message' };
const ANSWERS = {
    edit: NOT_THERE,
    remove: NOT_THERE,
    react: NOT_THERE,
    forward: NOT_THERE,
    copiesOf: [],
    signal: {},
    loadEarlier: null,
    readFile: null,
    changeGroup: 'none',
    changeParticipants: { problem: 'none' },
    leaveGroup: 'none',
    makeGroup: { id: null, participants: [] },
};

class WillingClient extends LightClient {}
for (const [name, answer] of Object.entries(ANSWERS)) {
    WillingClient.prototype[name] ??= async () => answer;
}

runLight(WillingClient);
