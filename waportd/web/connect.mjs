/** The connect page: gives one user's phone a code to link with, and follows the linking. */

import { Problem, address, asProblem, call, now, userPath } from './api.mjs';
import { CodePicture, Timer, button, skeleton, steps } from './connect-pieces.mjs';
import { pairingAfter, returnAddress, viewOf } from './connect-view.mjs';
import { byId, el, icon, say, spinner } from './dom.mjs';
import { Stream } from './stream.mjs';
import { connectText as text } from './texts.mjs';

const SLOW_MS = 20_000;

const asked = new URLSearchParams(location.search);
const user = asked.get('user') ?? '';
/** When the link that opened this page ends, in milliseconds; NaN where none did. */
const linkEnds = asked.has('signature') ? Number(asked.get('expires')) * 1000 : NaN;
const wayBack = returnAddress(
    document.documentElement.dataset.returnTo,
    asked.get('return_to'),
    location.href,
);

/** All that is known, from which the view follows. @type {import('./types').ConnectFacts} */
const facts = {
    user: null,
    qr: null,
    problem: null,
    pairing: null,
    byPhone: isPhone(),
    numberHere: false,
    codeReplaced: false,
    deleted: false,
};
/** When a call is tried again, in milliseconds. @type {number|null} */
let retryAt = null;
let lost = false;

/** Whether this is a phone, which cannot scan its own screen: it begins with its number. */
function isPhone() {
    return matchMedia('(max-width: 760px) and (pointer: coarse)').matches;
}

// ---- what the daemon says and is asked ----------------------------------------------------------

const stream = new Stream(userPath(user, 'events'), {
    on: {
        user: (document_) => learn({ user: document_, deleted: false }),
        qr: (document_) => learn({ qr: document_ }),
        deleted: () => {
            stream.stop();
            learn({ deleted: true, user: null, qr: null, pairing: null });
        },
    },
    onLive: () => setLost(false),
    onLost: () => setLost(true),
    onRefused: (problem) => learn(problem.status === 404 ? { deleted: true } : { problem }),
});

function learn(/** @type {Partial<typeof facts>} */ news) {
    Object.assign(facts, news);
    Object.assign(facts, pairingAfter({ ...facts, now: now() }));
    if (facts.problem?.refused) forgetCodes();
    render();
}

/** Who may no longer see a code keeps none. */
function forgetCodes() {
    facts.pairing = null;
    if (facts.qr !== null) facts.qr = { ...facts.qr, qr: null, passkey: null };
}

/** Have the user's server run, and follow it. */
async function ensure() {
    retryAt = null;
    try {
        await call('PUT', userPath(user), { query: { wait: 'none' } });
    } catch (error) {
        const problem = asProblem(error);
        retryAt = Date.now() + (problem.retryAfter ?? (problem.unreachable ? 2 : 30)) * 1000;
        setLost(problem.unreachable);
        learn({ problem });
        return;
    }
    setLost(false);
    learn({ problem: null, deleted: false });
    stream.start();
}

/** End with the link: nobody has to wait for the daemon to refuse the next call. */
function endWithLink() {
    // The daemon's clock counts, and it is not known before an answer.
    if (facts.user === null || facts.problem?.code === 'link_expired' || !(now() >= linkEnds)) return;
    stream.stop();
    setLost(false);
    retryAt = null;
    learn({ problem: new Problem({ status: 403, code: 'link_expired', detail: 'the link has expired' }) });
}

function setLost(/** @type {boolean} */ is) {
    lost = is;
    byId('lost').hidden = !is;
}

// ---- parts that are loaded later ----------------------------------------------------------------

/**
 * A part of the page that the first code needs nothing of.
 *
 * @template Made
 */
class Part {
    /** @type {Made|null} */
    made = null;
    hasFailed = false;
    #isLoading = false;
    #load;

    /** @param {() => Promise<Made>} load */
    constructor(load) {
        this.#load = load;
    }

    /** Load it, where it is not there. The page shows it as soon as it is. */
    async want() {
        if (this.#isLoading || this.made !== null) return;
        this.#isLoading = true;
        this.hasFailed = false;
        this.made = await this.#load().catch(() => null);
        this.hasFailed = this.made === null;
        this.#isLoading = false;
        render();
    }
}

const pairing = new Part(async () => {
    // With all that it imports: asked for one after the other, each file waits for the network again.
    const rest = [import('./typed-code.mjs'), import('./phone.mjs'), import('./contract.mjs')];
    const [{ PairingViews }] = await Promise.all([import('./connect-pairing.mjs'), ...rest]);
    const announcer = byId('announcer');
    return new PairingViews(text, { user, facts, learn, ensure, ahead, announcer });
});

const passkeys = new Part(async () => {
    const rest = [
        import('./typed-code.mjs'),
        import('./passkey-helper.mjs'),
        import('./passkey-snippet.mjs'),
    ];
    const [{ PasskeyViews }] = await Promise.all([import('./passkey-view.mjs'), ...rest]);
    const passkey = () => facts.qr?.passkey ?? null;
    const views = new PasskeyViews(text, { user, passkey, render, ensure, announcer: byId('announcer') });
    views.start();
    return views;
});

function partOf(/** @type {string} */ kind) {
    if (['phone', 'pairing', 'elsewhere'].includes(kind)) return pairing;
    return /^passkey(?!-stuck)/.test(kind) ? passkeys : null;
}

/** A line before the scan: what the last step may need. */
function ahead() {
    const element = el('div.ahead');
    /** @type {{update: () => void}|null} */
    let content = null;
    const update = () => {
        content ??= passkeys.made?.ahead(element) ?? null;
        content?.update();
    };
    return { element, update };
}

// ---- what is shown ------------------------------------------------------------------------------

/** What a view need not have. */
const NOTHING = { update: (/** @type {any} */ _view) => {}, tick: () => {}, fit: () => {}, leave: () => {} };

/** The view that is shown now: its kind, and what changes in it while it stays. */
let shown = { key: '', kind: '', since: 0, ...NOTHING };
/** The kind that was to be shown last, whether its part was there or not. */
let wanted = '';

function render() {
    let view = viewOf({ ...facts, now: now() });
    const part = partOf(view.kind);
    // Once more, too, where it did not load before.
    if (view.kind !== wanted) part?.want();
    wanted = view.kind;
    if (part?.hasFailed) view = { ...view, kind: 'unloaded', cause: null, message: null, hint: null };
    const isThere = part === null || part.made !== null;
    showNotice(view);
    const key = `${view.kind} ${isThere}`;
    if (key !== shown.key) replace(view, key, isThere || part?.hasFailed ? build : loadingView);
    shown.update(view);
    shown.tick();
    if (part === pairing && isThere) loadTheRest();
}

/** Say what happened to a code that was shown here. */
function showNotice(/** @type {import('./types').View} */ { kind }) {
    byId('notice').hidden = !(facts.codeReplaced && ['preparing', 'code', 'phone'].includes(kind));
    say(byId('notice'), byId('notice').hidden ? '' : text.replaced);
}

function replace(
    /** @type {import('./types').View} */ view,
    /** @type {string} */ key,
    /** @type {(view: import('./types').View) => any} */ make,
) {
    const place = byId('view');
    // A keyboard user in the view continues in the next one; otherwise the focus stays.
    const working = place.contains(document.activeElement);
    shown.leave();
    const { words, figure, ...hooks } = make(view);
    shown = { key, kind: view.kind, since: Date.now(), ...NOTHING, ...hooks };
    const { title = '', text: lead } = wordsOf(view);
    const heading = el('h1', { tabindex: '-1' }, title);
    place.replaceChildren(
        el('div.words', {}, heading, lead ? el('p.lead', { id: 'lead' }, lead) : null, ...words),
        el('div.figure', {}, ...figure),
    );
    place.dataset.kind = view.kind;
    document.title = title;
    showStation(view);
    if (working) heading.focus();
    say(
        byId('announcer'),
        [byId('notice').textContent, [title, lead].filter(Boolean).join('. ')].join(' ').trim(),
    );
}

function wordsOf(/** @type {{kind: string, cause?: string|null}} */ { kind, cause }) {
    const { [kind]: about } = /** @type {Record<string, import('./types').ViewWords>} */ (text.views);
    const causes = /** @type {Record<string, import('./types').ViewWords>} */ (text.causes);
    // Codes start again after a refused passkey: say why.
    const hasCause = ['error', 'failed', 'passkey-stuck'].includes(kind) || cause === 'passkey_failed';
    return hasCause ? { ...about, ...causes[cause ?? ''] } : about;
}

function showStation(/** @type {import('./types').View} */ { station, kind }) {
    const names = [...text.stations];
    if (partOf(kind) === pairing) names[1] = text.stationByPhone;
    byId('stations').hidden = station === null;
    byId('stations').replaceChildren(
        ...names.map((/** @type {string} */ name, /** @type {number} */ index) =>
            el(
                'li',
                {
                    class: station !== null && index < station ? 'done' : null,
                    'aria-current': index === station ? 'step' : null,
                },
                el('span', {}, name),
            ),
        ),
    );
}

/** Make the view of a kind. */
function build(/** @type {import('./types').View} */ view) {
    const make = /** @type {Record<string, (view: import('./types').View) => any>} */ ({
        code: scanView,
        linking: linkingView,
        linked: linkedView,
        ...pairing.made?.views,
        ...passkeys.made?.views,
    });
    if (view.kind in make) return make[view.kind](view);
    return ['preparing', 'stopping', 'reconnecting'].includes(view.kind)
        ? waitingView(view)
        : troubleView(view);
}

function waitingView(/** @type {{kind: string}} */ { kind }) {
    return {
        words: [],
        figure: [skeleton()],
        tick: () => {
            if (kind === 'preparing' && Date.now() - shown.since > SLOW_MS)
                say(byId('lead'), text.views.slow.text);
        },
    };
}

/** The place of a view whose part is on its way. */
const loadingView = () => ({ words: [], figure: [el('div.badge.work', {}, spinner())] });

function scanView() {
    const attempt = el('span');
    const timer = new Timer(text.scan.left);
    const picture = new CodePicture(user, text.scan.code, timer);
    const line = ahead();
    return {
        words: [
            steps(text.scan.steps),
            line.element,
            el(
                'p.alternative',
                {},
                button(text.scan.byPhone, () => learn({ byPhone: true, codeReplaced: false })),
            ),
            el('p.note', {}, text.scan.secret),
        ],
        figure: [picture.element, el('div.timer', {}, timer.bar, el('p', {}, timer.words, attempt))],
        update: () => {
            const { qr } = facts;
            if (qr === null) return;
            line.update();
            say(attempt, qr.attempt > 1 ? text.scan.attempt(qr.attempt, qr.attempts) : '');
            picture.show(qr);
        },
        tick: () => {
            picture.tick();
            if (picture.element.querySelector('svg') !== null) loadTheRest();
        },
        fit: () => picture.fit(),
        leave: () => picture.leave(),
    };
}

/** Have the later parts there before they are needed, when nobody waits for what is shown first. */
function loadTheRest() {
    pairing.want();
    passkeys.want();
}

function linkingView() {
    const bar = el('progress', { max: '100', 'aria-labelledby': 'lead' });
    const percent = el('span', { 'aria-hidden': 'true' });
    return {
        words: [el('p.progress', {}, bar, percent)],
        figure: [el('div.badge.work', {}, spinner())],
        update: () => {
            const progress = facts.user?.session?.progress ?? null;
            if (progress === null) bar.removeAttribute('value');
            else bar.value = progress;
            say(percent, progress === null ? '' : text.progress(progress));
        },
    };
}

function linkedView() {
    const name = el('strong');
    const number = el('span');
    /** The number as it is, until it is known how people write it. */
    let phoneText = (/** @type {string} */ digits) => `+${digits}`;
    const update = () => {
        const { name: owner, phone_number: digits } = facts.user?.session ?? {};
        say(name, owner ? text.linkedAs(owner) : '');
        say(number, digits ? phoneText(digits) : '');
    };
    import('./phone.mjs').then(
        (phone) => {
            ({ phoneText } = phone);
            update();
        },
        () => {},
    );
    return {
        words: [el('p.identity', {}, name, number), backLink(), el('p.note', {}, text.secure)],
        figure: [el('div.badge.good', {}, icon('check'))],
        update,
    };
}

/** The way back to the web app, where it is known. It leads out of a frame, too. */
const backLink = () =>
    wayBack === null
        ? null
        : el('p', {}, el('a.button.primary', { href: wayBack, target: '_top' }, text.back));

/** Views whose way on is the way back. */
const ENDS = ['refused', 'expired', 'expired-linking'];

/** What went wrong, and the way out of it. */
function troubleView(/** @type {import('./types').View} */ view) {
    const { action } = wordsOf(view);
    const wait = el('p.note');
    const details = { message: el('dd'), hint: el('dd'), cause: el('dd') };
    const box = el(
        'details',
        {},
        el('summary', {}, text.details),
        el('dl', { lang: 'en' }, details.message, details.hint, details.cause),
    );
    const calm = [
        ...['timeout', 'idle', 'logged-out', 'stopped', 'deleted'],
        ...['expired', 'expired-linking'],
    ].includes(view.kind);
    const act = view.kind === 'unloaded' ? () => location.reload() : ensure;
    let cause = view.cause;
    return {
        words: [
            action ? el('p', {}, button(action, act, 'button primary')) : null,
            ENDS.includes(view.kind) ? backLink() : null,
            wait,
            box,
        ],
        figure: [el(`div.badge.${calm ? 'quiet' : 'bad'}`, {}, icon(calm ? 'pause' : 'alert'))],
        update: (/** @type {Record<string, any>} */ now_) => {
            for (const [name, place] of Object.entries(details)) {
                say(place, now_[name] ?? '');
                place.hidden = !now_[name];
            }
            box.hidden = calm || !now_.message;
            // Another cause has other words.
            if (now_.cause !== cause) {
                cause = now_.cause;
                shown.key = '';
                render();
            }
            if (view.kind === 'busy') retryAt ??= Date.now() + 30_000;
        },
        tick: () =>
            say(wait, view.kind === 'busy' && retryAt !== null ? text.retry(secondsUntil(retryAt)) : ''),
    };
}

// ---- pieces -------------------------------------------------------------------------------------

const secondsUntil = (/** @type {number} */ ms) => Math.max(0, Math.ceil((ms - Date.now()) / 1000));

// ---- beginning ----------------------------------------------------------------------------------

say(byId('lost-text'), text.lost);
say(byId('lost-retry'), text.tryNow);
byId('lost-retry').addEventListener('click', () => (retryAt === null ? stream.hurry() : ensure()));
setInterval(() => {
    if (retryAt !== null && Date.now() >= retryAt && (lost || shown.kind === 'busy')) ensure();
    endWithLink();
    render();
}, 500);
addEventListener('resize', () => shown.fit());

if (user === '') {
    const detail = 'the address names no user';
    learn({
        problem: new Problem({
            status: 400,
            code: 'bad_request',
            detail,
            hint: `open ${address('connect')}?user=2`,
        }),
    });
} else {
    render();
    ensure();
    // Its first view is the form for the number.
    if (facts.byPhone) pairing.want();
}
