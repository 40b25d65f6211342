'use strict';

/** The paths by which a person's browser answers WhatsApp's request for a passkey. */

const { causeOf } = require('./errors');
const contract = require('./contract.json');
const { inTime, readJson, writeJson } = require('./http');
const { reason } = require('./session_errors');

/** A credential is some 650 bytes. */
const { passkey_bytes: MOST_BYTES } = contract.limits;
const BODY_LIMIT_MS = 20_000;

/** The status of error answers, by cause. @type {Record<string, number>} */
const STATUS = {
    no_passkey_request: 409,
    passkey_given: 409,
    no_passkey_code: 409,
    passkey_code_changed: 409,
    passkey_button_missing: 503,
};
const OTHER_STATUS = 400;

/** @typedef {import('./types').Call} Call */

/**
 * @param {object} options
 * @param {import('./types').AddRoute} options.add
 * @param {import('./session').Session} options.session
 * @param {import('./state').SessionState} options.state
 * @param {(error: unknown, status: number) => unknown} options.explained makes an answer of a reason
 */
function addPasskeyRoutes({ add, session, state, explained }) {
    const answering = async (/** @type {() => unknown} */ work) => {
        try {
            return await work();
        } catch (error) {
            throw explained(error, STATUS[causeOf(error)] ?? OTHER_STATUS);
        }
    };
    const read = (/** @type {import('node:http').IncomingMessage} */ request) =>
        inTime(readJson(request, MOST_BYTES), BODY_LIMIT_MS).catch((error) => {
            throw error.status === 400 ? explained(reason.passkey('passkey_malformed'), OTHER_STATUS) : error;
        });
    /** The step that is under way, which its callers follow. */
    const stepOr = (/** @type {Parameters<typeof reason.passkey>[0]} */ cause) => {
        const step = session.followPasskey();
        if (step === null) throw reason.passkey(cause);
        return step;
    };
    const shown = () => state.document().passkey;
    const taken = (/** @type {Call} */ { response }) => writeJson(response, 202, shown());

    add('GET', '/passkey', 'the passkey that WhatsApp wants', () =>
        answering(() => {
            stepOr('no_passkey_request');
            return shown();
        }),
    );

    const give = (/** @type {Call} */ call) =>
        answering(() => {
            stepOr('no_passkey_request').give(call.body);
            taken(call);
        });
    add('POST', '/passkey', 'answer with a credential: PublicKeyCredential.toJSON()', give, { read });

    const confirm = (/** @type {Call} */ call) =>
        answering(async () => {
            await stepOr('no_passkey_code').confirm(call.body.code);
            taken(call);
        });
    add('POST', '/passkey/confirm', 'the phone shows the same code {"code"}', confirm);

    add('DELETE', '/passkey', 'cancel: back to codes', ({ response }) =>
        answering(async () => {
            await stepOr('no_passkey_request').cancel();
            response.writeHead(204);
            response.end();
        }),
    );
}

module.exports = { addPasskeyRoutes };
