/** What the connect page shows, decided from what it knows. Pure: no page, no clock of its own. */

/** The stations on the way to a linked phone, by the kinds of view that belong to them. */
const STATION = {
    preparing: 0,
    stopping: 0,
    code: 1,
    phone: 1,
    pairing: 1,
    linking: 2,
    reconnecting: 2,
    linked: 3,
};

const SESSION = {
    starting: 'preparing',
    generating: 'preparing',
    qr: 'preparing',
    stopping: 'stopping',
    authenticated: 'linking',
    ready: 'linked',
    disconnected: 'reconnecting',
    qr_timeout: 'timeout',
    passkey_required: 'passkey',
    logged_out: 'logged-out',
    error: 'error',
    failed: 'failed',
    crash_loop: 'failed',
};

/** Where a phone number may be given in place of a scan. */
const UNLINKED = new Set(['preparing', 'code', 'timeout']);

const NO_ROOM = new Set(['limit_reached', 'ports_exhausted']);

/**
 * @param {object} facts
 * @param {?object} facts.user document of the user
 * @param {?object} facts.qr document of the code
 * @param {?Problem} facts.problem why the last call of the page failed
 * @param {?object} facts.pairing code that this page asked for: `{code, expires_at}`
 * @param {boolean} facts.byPhone the visitor chose to type a code on the phone
 * @param {boolean} facts.deleted
 * @param {number} facts.now milliseconds
 * @returns {{kind: string, station: ?number, cause: ?string, message: ?string, hint: ?string}}
 */
export function viewOf({ user, qr, problem, pairing, byPhone, deleted, now }) {
    const view = (kind, { cause = null, message = null, hint = null } = {}) => ({
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
    else if (qr.status === 'failed' && NO_ROOM.has(qr.cause)) kind = 'busy';
    else if (qr.status === 'pairing') kind = pairingKind(qr, pairing, now);
    else if (kind === 'preparing' && isLive(pairing, now)) kind = 'pairing';
    // Between two codes of one run, too: the next one comes in a moment.
    else if (kind === 'preparing' && qr.attempt > 0) kind = 'code';
    if (byPhone && UNLINKED.has(kind)) kind = 'phone';
    return view(kind, qr);
}

/** Tell whether a code, for the camera or the keyboard, can still be used. */
export const isLive = (code, now) => code !== null && Date.parse(code.expires_at) > now;

function kindOf(problem) {
    if (NO_ROOM.has(problem.code)) return 'busy';
    if (problem.refused) return 'refused';
    if (problem.status === 429) return 'busy';
    return problem.status === 400 ? 'bad-address' : 'failed';
}

/** Once the phone has answered there is nothing left to do on it, and the session has no hint for that. */
function pairingKind(qr, pairing, now) {
    if (qr.hint === null) return 'linking';
    return isLive(pairing, now) ? 'pairing' : 'phone';
}
