/** What the connect page shows, decided from what it knows. Pure: no page, no clock of its own. */

/** The stations on the way to a linked phone, by the kinds of view that belong to them. */
const STATION = /** @type {Record<string, number>} */ ({
    preparing: 0,
    stopping: 0,
    code: 1,
    phone: 1,
    pairing: 1,
    elsewhere: 1,
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
        unreachable: 'failed',
        moving: 'preparing',
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
 * @param {import('./types').ConnectFacts & {now: number}} facts `now` in milliseconds
 * @returns {import('./types').View}
 */
export function viewOf({ user, qr, problem, pairing, byPhone, numberHere, deleted, now }) {
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
        return view(kindOf(problem, qr), {
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
    else if (isLinking(qr)) kind = 'linking';
    else if (hasCodeElsewhere({ qr, pairing })) kind = numberHere ? 'phone' : 'elsewhere';
    else if (qr.status === 'pairing') kind = isLive(pairing, now) ? 'pairing' : 'phone';
    else if (kind === 'preparing' && isLive(pairing, now)) kind = 'pairing';
    // Between two codes of one run, too: the next one comes in a moment.
    else if (kind === 'preparing' && qr.attempt > 0) kind = 'code';
    if (byPhone && UNLINKED.has(kind)) kind = 'phone';
    return view(kind, qr);
}

/** Return whether a code, for the camera or the keyboard, can still be used. */
export const isLive = (/** @type {{expires_at: string}|null} */ code, /** @type {number} */ now) =>
    code !== null && Date.parse(code.expires_at) > now;

/** Whether a code to type was asked for, and not by this page: only who asked for it has it. */
export const hasCodeElsewhere = (
    /** @type {Pick<import('./types').ConnectFacts, 'qr'|'pairing'>} */ { qr, pairing },
) => qr?.status === 'pairing' && !isLinking(qr) && pairing === null;

/**
 * What is left of the code to type that this page asked for, after news of the session.
 *
 * A code is known by the time at which the session began to wait for it. `codeReplaced`: it was valid still,
 * and the session shows another code now, which somebody else has asked for.
 *
 * @param {import('./types').ConnectFacts & {now: number}} facts
 * @returns {Pick<import('./types').ConnectFacts, 'pairing'|'codeReplaced'|'numberHere'>}
 */
export function pairingAfter({ user, qr, pairing, codeReplaced, numberHere, now }) {
    if (pairing === null || qr === null) return { pairing, codeReplaced, numberHere };
    // A code that a phone was linked with links no other one.
    if (qr.status === 'ready') return { pairing: null, codeReplaced: false, numberHere: false };
    const since = (qr.status === 'pairing' && user?.session?.since) || null;
    // The answer with the code may come before the news of it.
    if (pairing.since === null)
        return { pairing: { ...pairing, since }, codeReplaced, numberHere: numberHere && since === null };
    if (since === pairing.since) return { pairing, codeReplaced, numberHere };
    const isReplaced = isLive(pairing, now) && (since !== null || SESSION[qr.status] === 'preparing');
    return { pairing: null, codeReplaced: codeReplaced || isReplaced, numberHere };
}

/**
 * Where the way back to the web app leads: to the address that the daemon vouches for, else within this site.
 *
 * @param {string|undefined} granted
 * @param {string|null} asked what anybody may have written into the address of this page
 * @param {string} page the address of this page
 */
export function returnAddress(granted, asked, page) {
    if (granted || !asked) return granted ?? null;
    try {
        const address = new URL(asked, page);
        const { origin, protocol } = new URL(page);
        const isOwn = address.origin === origin && address.protocol === protocol;
        // A name before the host looks like one, and logs in where a proxy asks for that.
        return isOwn && address.username === '' && address.password === '' ? address.href : null;
    } catch {
        return null; // no address at all
    }
}

function kindOf(
    /** @type {import('./api.mjs').Problem} */ problem,
    /** @type {import('./types').CodeDocument|null} */ qr,
) {
    if (NO_ROOM.has(problem.code ?? '')) return 'busy';
    if (problem.code === 'link_expired') return qr && isLinking(qr) ? 'expired-linking' : 'expired';
    if (problem.refused) return 'refused';
    if (problem.status === 429) return 'busy';
    return problem.status === 400 ? 'bad-address' : 'failed';
}

/** Once the phone has answered there is nothing left to do on it, and the session has no hint for that. */
const isLinking = (/** @type {import('./types').CodeDocument} */ { status, hint, passkey }) =>
    status === 'authenticated' || (status === 'pairing' && hint === null && !passkey);
