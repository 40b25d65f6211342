/** What the connect page shows, decided from what it knows. Pure: no page, no clock of its own. */

/** The stations on the way to a linked phone, by the kinds of view that belong to them. */
const STATION = /** @type {Record<string, number>} */ ({
    preparing: 0,
    stopping: 0,
    code: 1,
    phone: 1,
    pairing: 1,
    linking: 2,
    reconnecting: 2,
    'passkey-opening': 2,
    passkey: 2,
    'passkey-given': 2,
    'passkey-code': 2,
    'passkey-failed': 2,
    'passkey-stuck': 2,
    linked: 3,
});

/** @typedef {typeof import('../../server/contract.json')} Contract */

/** @typedef {keyof Contract['session_states'] | keyof Contract['process_states']} State */

/** While the process runs, its session counts; `pairing` and `stopped` are several kinds of view. */
const SESSION = /** @type {Record<string, string>} */ (
    /** @satisfies {Record<Exclude<State, 'running' | 'pairing' | 'stopped'>, string>} */ ({
        starting: 'preparing',
        generating: 'preparing',
        qr: 'preparing',
        stopping: 'stopping',
        authenticated: 'linking',
        ready: 'linked',
        disconnected: 'reconnecting',
        qr_timeout: 'timeout',
        passkey_required: 'passkey-stuck',
        logged_out: 'logged-out',
        error: 'error',
        failed: 'failed',
        crash_loop: 'failed',
    })
);

/** What is to be done while WhatsApp wants a passkey. */
const PASSKEY = /** @type {Record<string, string>} */ (
    /** @satisfies {Record<keyof Contract['passkey_stages'], string>} */ ({
        opening: 'passkey-opening',
        asked: 'passkey',
        given: 'passkey-given',
        code: 'passkey-code',
        failed: 'passkey-failed',
    })
);

/** Where a phone number may be given in place of a scan. */
const UNLINKED = new Set(['preparing', 'code', 'timeout']);

const NO_ROOM = new Set(['limit_reached', 'ports_exhausted']);

/**
 * @param {object} facts
 * @param {?import('./types').User} facts.user document of the user
 * @param {?import('./types').CodeDocument} facts.qr document of the code
 * @param {?import('./api.mjs').Problem} facts.problem why the last call of the page failed
 * @param {?import('./types').PairingCode} facts.pairing code that this page asked for
 * @param {boolean} facts.byPhone the visitor chose to type a code on the phone
 * @param {boolean} facts.deleted
 * @param {number} facts.now milliseconds
 * @returns {import('./types').View}
 */
export function viewOf({ user, qr, problem, pairing, byPhone, deleted, now }) {
    const view = (
        /** @type {string} */ kind,
        /** @type {any} */ { cause = null, message = null, hint = null } = {},
    ) => ({
        kind,
        station: STATION[kind] ?? null,
        cause,
        message,
        hint,
    });
    // A link that ends does not take back what it was good for.
    const done = problem?.refused && user?.session?.state === 'ready';
    if (problem !== null && !problem.unreachable && !done) {
        return view(kindOf(problem), {
            cause: problem.cause ?? problem.code,
            message: problem.message,
            hint: problem.hint,
        });
    }
    if (deleted) return view('deleted');
    if (user === null || qr === null) return view('preparing');
    let kind = SESSION[qr.status] ?? 'error';
    if (qr.status === 'stopped') kind = qr.hint === null ? 'idle' : 'stopped';
    else if (qr.status === 'failed' && NO_ROOM.has(qr.cause ?? '')) kind = 'busy';
    else if (qr.passkey && qr.passkey.stage in PASSKEY) kind = PASSKEY[qr.passkey.stage];
    else if (qr.status === 'pairing') kind = pairingKind(qr, pairing, now);
    else if (kind === 'preparing' && isLive(pairing, now)) kind = 'pairing';
    // Between two codes of one run, too: the next one comes in a moment.
    else if (kind === 'preparing' && qr.attempt > 0) kind = 'code';
    if (byPhone && UNLINKED.has(kind)) kind = 'phone';
    return view(kind, qr);
}

/** Return whether a code, for the camera or the keyboard, can still be used. */
export const isLive = (/** @type {{expires_at: string}|null} */ code, /** @type {number} */ now) =>
    code !== null && Date.parse(code.expires_at) > now;

function kindOf(/** @type {import('./api.mjs').Problem} */ problem) {
    if (NO_ROOM.has(problem.code ?? '')) return 'busy';
    if (problem.refused) return 'refused';
    if (problem.status === 429) return 'busy';
    return problem.status === 400 ? 'bad-address' : 'failed';
}

/** Once the phone has answered there is nothing left to do on it, and the session has no hint for that. */
function pairingKind(
    /** @type {import('./types').CodeDocument} */ qr,
    /** @type {{expires_at: string}|null} */ pairing,
    /** @type {number} */ now,
) {
    if (qr.hint === null) return 'linking';
    return isLive(pairing, now) ? 'pairing' : 'phone';
}
