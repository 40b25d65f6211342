/** How far the linking of a user's phone has come, for those who look from the dashboard. Pure. */

/** While a code to scan is made, or nearly. */
const PREPARING = ['generating', 'starting', 'running', 'stopping', 'disconnected'];

/**
 * @typedef {'linked'|'passkey'|'linking'|'closed'} Anyway whatever was asked for
 * @typedef {'number'|'typed'} ByPhone
 * @typedef {'preparing'|'code'|'elsewhere'|'timeout'|'trouble'} ByScan
 * @typedef {Anyway|ByPhone|ByScan} Step
 */

/**
 * @param {object} facts
 * @param {Pick<import('./types').User, 'summary'|'linked'>} facts.user
 * @param {?('scan'|'phone')} facts.wish which code this page was asked for
 * @param {?import('./types').CodeDocument} facts.qr what the daemon says of the code, where one was asked for
 * @param {?{expires_at: string}} facts.pairing the code to type that this page has asked for
 * @param {boolean} facts.failed the server could not be started
 * @param {boolean} facts.isNew it was asked for a moment ago: the daemon may still say what was before
 * @returns {Step}
 */
export function stepOf({ user: { summary, linked }, wish, qr, pairing, failed, isNew }) {
    const { status: state, hint } = qr ?? { status: summary.state, hint: summary.hint };
    if (state === 'authenticated') return 'linking';
    if (state === 'ready' || linked) return 'linked';
    if (state === 'passkey_required') return 'passkey';
    // Once the phone has answered there is nothing left to do on it, and the session has no hint for that.
    if (state === 'pairing' && hint === null) return 'linking';
    if (wish === null) return 'closed';
    if (wish === 'phone') return pairing === null ? 'number' : 'typed';
    if (failed) return 'trouble';
    if (qr === null) return 'preparing';
    if (state === 'pairing') return 'elsewhere';
    // Between two codes of one run, too: the next one comes in a moment.
    if (state === 'qr' || (state === 'generating' && qr.attempt > 0)) return 'code';
    if (isNew || PREPARING.includes(state)) return 'preparing';
    return state === 'qr_timeout' ? 'timeout' : 'trouble';
}

/**
 * What is left of a code to type, after news of the session. It is known by the time at which the session
 * began to wait for it: another time is that of another code.
 *
 * @template {{since: string|null, expires_at: string}} Code
 * @param {Code} pairing
 * @param {?import('./types').Session} session
 * @param {number} now milliseconds
 * @returns {?Code}
 */
export function pairingAfter(pairing, session, now) {
    if (Date.parse(pairing.expires_at) <= now) return null;
    const since = session?.state === 'pairing' ? session.since : null;
    // The answer with the code may come before the news of it.
    if (pairing.since === null) return { ...pairing, since };
    return since === pairing.since ? pairing : null;
}
