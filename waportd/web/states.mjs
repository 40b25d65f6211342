/** The states of a user's server in words, and in the few groups that a person looks for. Pure. */

export const GROUPS = {
    linked: 'Linked',
    waiting: 'Waiting for scan',
    working: 'In progress',
    trouble: 'Problems',
    idle: 'Idle',
};

const SESSION = {
    generating: ['working', 'getting a code'],
    qr: ['waiting', 'code on show'],
    pairing: ['waiting', 'pairing'],
    authenticated: ['working', 'loading'],
    ready: ['linked', 'linked'],
    disconnected: ['working', 'reconnecting'],
    qr_timeout: ['idle', 'no scan'],
    logged_out: ['idle', 'logged out'],
    passkey_required: ['trouble', 'passkey required'],
    error: ['trouble', 'error'],
};

const PROCESS = {
    stopped: ['idle', 'stopped'],
    starting: ['working', 'starting'],
    running: ['linked', 'running'],
    stopping: ['working', 'stopping'],
    failed: ['trouble', 'failed'],
    crash_loop: ['trouble', 'crash loop'],
};

/** Group and word of a process state; a state of a newer daemon is shown as it is called. */
export const processWords = (state) => PROCESS[state] ?? ['working', state];
export const sessionWords = (state) => SESSION[state] ?? ['working', state];

/**
 * What matters of a user's server now: its session while it runs, else its process.
 *
 * @param {object} user document of the user
 * @returns {{group: string, word: string, since: string, message: ?string, hint: ?string,
 *   bySession: boolean}}
 */
export function conditionOf({ process, session }) {
    const of = ([group, word], { since, message, hint }, bySession) => ({
        group,
        word,
        since,
        message,
        hint,
        bySession,
    });
    if (process.state !== 'running') {
        // The last word of a server that ended by itself; of one that was stopped or failed, that counts.
        const bySession = session !== null && process.state === 'stopped' && process.hint === null;
        return bySession
            ? of(sessionWords(session.state), session, true)
            : of(processWords(process.state), process, false);
    }
    if (session === null) {
        const message = 'the server runs and has not said anything yet';
        return of(['working', 'starting'], { ...process, message }, true);
    }
    if (!session.answering) {
        const message = 'the server does not answer';
        const hint = 'systemd ends and restarts a hung server by itself within a minute';
        return of(['trouble', 'not answering'], { since: session.since, message, hint }, true);
    }
    return of(sessionWords(session.state), session, true);
}

/** What may be done to it now. */
export function actionsFor({ process, linked }) {
    const down = ['stopped', 'failed', 'crash_loop'].includes(process.state);
    return [...(down ? ['start'] : ['restart', 'stop']), ...(linked || !down ? ['logout'] : []), 'delete'];
}

/** Tell whether a user is meant by what was typed: user, port, phone, name or words of its state. */
export function matches(user, typed) {
    const words = typed.toLowerCase().split(/\s+/).filter(Boolean);
    const { session, process } = user;
    const { word, message } = conditionOf(user);
    const about = [
        user.user,
        user.port,
        user.unit,
        session?.phone_number,
        session?.name,
        process.state,
        word,
        message,
    ]
        .filter((part) => part !== null && part !== undefined)
        .join('\n')
        .toLowerCase();
    return words.every((part) => about.includes(part));
}

const natural = new Intl.Collator('en', { numeric: true });

/** How two users are ordered by a column; the port decides between equals. */
export const ORDER = {
    user: (a, b) => natural.compare(a.user, b.user),
    port: (a, b) => a.port - b.port,
    process: (a, b) => natural.compare(a.process.state, b.process.state),
    session: (a, b) => rank(a) - rank(b) || natural.compare(conditionOf(a).word, conditionOf(b).word),
    since: (a, b) => Date.parse(conditionOf(b).since) - Date.parse(conditionOf(a).since),
    memory: (a, b) => (b.memory ?? -1) - (a.memory ?? -1),
    cpu: (a, b) => (b.cpu ?? -1) - (a.cpu ?? -1),
    restarts: (a, b) => b.process.restarts - a.process.restarts,
};

/** Problems first: whoever sorts by state looks for them. */
const RANK = ['trouble', 'waiting', 'working', 'linked', 'idle'];
const rank = (user) => RANK.indexOf(conditionOf(user).group);
