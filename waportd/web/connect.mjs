/** The connect page: gives one user's phone a code to link with, and follows the linking. */

import { Problem, address, asProblem, call, now, send, userPath } from './api.mjs';
import { Letters, Timer, button, copy, skeleton, steps } from './connect-pieces.mjs';
import { viewOf } from './connect-view.mjs';
import { busy, el, icon, idle, isBusy, say, spinner } from './dom.mjs';
import { PasskeyViews } from './passkey-view.mjs';
import { phoneOf, phoneText } from './phone.mjs';
import { Stream } from './stream.mjs';
import { connectText as text } from './texts.mjs';

const SLOW_MS = 20_000;

const user = new URLSearchParams(location.search).get('user') ?? '';
/** An element of the page's own document, of the kind that it has there. @returns {any} */
const byId = (/** @type {string} */ id) => document.getElementById(id);

/** All that is known, from which the view follows. @type {any} */
const facts = { user: null, qr: null, problem: null, pairing: null, byPhone: isPhone(), deleted: false };
/** When a call is tried again, in milliseconds. @type {number|null} */
let retryAt = null;
let lost = false;
let phone = text.phone.prefix;
const passkeys = new PasskeyViews(text, {
    user,
    passkey: () => facts.qr?.passkey ?? null,
    render,
    ensure,
    announcer: byId('announcer'),
});

/** Whether this is a phone, which cannot scan its own screen: it begins with its number. */
function isPhone() {
    return matchMedia('(max-width: 760px) and (pointer: coarse)').matches;
}

// ---- what the daemon says and is asked ----------------------------------------------------------

const stream = new Stream(userPath(user, 'events'), {
    on: {
        user: (document_) => learn({ user: document_, deleted: false }),
        // A code that a phone was linked with links no other one.
        qr: (document_) =>
            learn({ qr: document_, ...(document_.status === 'ready' ? { pairing: null } : {}) }),
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
    render();
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

async function askForPairingCode(
    /** @type {{complain: (words: string|null, until?: Countdown|null) => void, ask: HTMLElement}} */ form,
) {
    const number = phoneOf(phone, text.phone.prefix.replace(/\D/g, ''));
    form.complain(
        number === null ? (/^\s*\+?\s*0/.test(phone) ? text.phone.zero : text.phone.invalid) : null,
    );
    if (number === null) return;
    busy(form.ask, text.phone.asking);
    try {
        const { code, expires_at } = await call('POST', userPath(user, 'pairing-code'), {
            body: { phone: number },
        });
        learn({ pairing: { code, expires_at, number } });
    } catch (error) {
        const { cause, code, retryAfter } = asProblem(error);
        const words = /** @type {import('./types').ProblemWords} */ (text.pairingProblems);
        const known = words[cause ?? ''] ?? words[code ?? ''] ?? words.other;
        if (typeof known !== 'function') form.complain(known);
        else form.complain('', { words: known, at: Date.now() + (retryAfter ?? 60) * 1000 });
    } finally {
        idle(form.ask, text.phone.ask);
    }
}

/** @typedef {{words: (seconds: number) => string, at: number}} Countdown what is said until a time */

function setLost(/** @type {boolean} */ is) {
    lost = is;
    byId('lost').hidden = !is;
}

// ---- what is shown ------------------------------------------------------------------------------

/** The view that is shown now: its kind, and what changes in it while it stays. */
let shown = {
    kind: /** @type {string|null} */ (null),
    since: 0,
    update: (/** @type {any} */ _view) => {},
    tick: () => {},
    leave: () => {},
};

function render() {
    const view = viewOf({ ...facts, now: now() });
    if (view.kind !== shown.kind) replace(view);
    shown.update(view);
    shown.tick();
}

function replace(/** @type {import('./types').View} */ view) {
    const place = byId('view');
    // A keyboard user in the view continues in the next one; otherwise the focus stays.
    const working = place.contains(document.activeElement);
    shown.leave();
    const { words, figure, update = () => {}, tick = () => {}, leave = () => {} } = build(view);
    shown = { kind: view.kind, since: Date.now(), update, tick, leave };
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
    say(byId('announcer'), [title, lead].filter(Boolean).join('. '));
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
    if (['phone', 'pairing'].includes(kind)) names[1] = text.stationByPhone;
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
        phone: phoneView,
        pairing: pairingView,
        linking: linkingView,
        linked: linkedView,
        ...passkeys.views,
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

function scanView() {
    const panel = el('div.code', { role: 'img', 'aria-label': text.scan.code });
    const attempt = el('span');
    const timer = new Timer(text.scan.left);
    const ahead = passkeys.ahead();
    /** @type {string|null} */
    let drawn = null;
    return {
        words: [
            steps(text.scan.steps),
            ahead.element,
            el(
                'p.alternative',
                {},
                button(text.scan.byPhone, () => learn({ byPhone: true })),
            ),
            el('p.note', {}, text.scan.secret),
        ],
        figure: [panel, el('div.timer', {}, timer.bar, el('p', {}, timer.words, attempt))],
        update: ({ qr = facts.qr }) => {
            ahead.update();
            say(attempt, qr.attempt > 1 ? text.scan.attempt(qr.attempt, qr.attempts) : '');
            if (qr.qr === drawn) return;
            drawn = qr.qr;
            timer.run(drawn === null ? null : qr.expires_at);
            if (drawn === null) panel.replaceChildren(skeleton());
            else draw(panel, () => drawn === qr.qr);
        },
        tick: () => {
            timer.tick();
            // An expired code is not left on the screen, even if the stream has ended.
            if (drawn !== null && timer.over) {
                drawn = null;
                panel.replaceChildren(skeleton());
            }
        },
    };
}

/** Draw the present code. One that comes too late is not drawn. */
async function draw(/** @type {HTMLElement} */ panel, /** @type {() => boolean} */ isWanted) {
    try {
        const headers = { Accept: 'image/svg+xml' };
        const answer = await send('GET', userPath(user, 'qr'), { query: { format: 'svg' }, headers });
        const picture = new DOMParser().parseFromString(await answer.text(), 'image/svg+xml').documentElement;
        if (!isWanted() || picture.nodeName !== 'svg') return;
        panel.replaceChildren(sharp(picture, panel));
    } catch (error) {
        // Without a code any more there is a newer event on its way.
        if (asProblem(error).status !== 409 && isWanted())
            setTimeout(() => isWanted() && draw(panel, isWanted), 1_000);
    }
}

/** Make a picture as large as its place allows with every module a whole number of the screen's pixels. */
function sharp(/** @type {Element} */ picture, /** @type {HTMLElement} */ panel) {
    const svg = /** @type {SVGSVGElement} */ (document.importNode(picture, true));
    svg.setAttribute('shape-rendering', 'crispEdges');
    svg.setAttribute('aria-hidden', 'true');
    const moved = /** @type {SVGGraphicsElement|null} */ (svg.querySelector('[transform]'));
    const scale = moved?.transform.baseVal.consolidate()?.matrix.a ?? 1;
    const modules = svg.viewBox.baseVal.width / scale;
    const place = Math.max(1, panel.clientWidth - 16) * devicePixelRatio;
    const side = (Math.max(1, Math.floor(place / modules)) * modules) / devicePixelRatio;
    svg.setAttribute('width', String(side));
    svg.setAttribute('height', String(side));
    return svg;
}

function phoneView() {
    const field = el('input.field', {
        id: 'phone',
        type: 'tel',
        autocomplete: 'tel',
        inputmode: 'tel',
        maxlength: '32',
        required: true,
        'aria-describedby': 'phone-help phone-problem',
        value: phone,
        oninput: () => {
            phone = field.value;
            complain(null);
        },
    });
    const problem = el('p.problem', { id: 'phone-problem', role: 'alert' });
    const ask = el('button.button.primary', { type: 'submit' }, text.phone.ask);
    /** @type {Countdown|null} */
    let countdown = null;
    const tick = () => {
        if (countdown === null) return;
        const left = secondsUntil(countdown.at);
        if (left > 0) say(problem, countdown.words(left));
        else complain(null);
    };
    const complain = (/** @type {string|null} */ words, /** @type {Countdown|null} */ until = null) => {
        countdown = until;
        say(problem, words ?? '');
        tick();
        field.setAttribute('aria-invalid', String(words !== null && until === null));
        if (words !== null) field.focus();
    };
    const form = el(
        'form',
        {
            novalidate: true,
            onsubmit: (/** @type {SubmitEvent} */ event) => {
                event.preventDefault();
                if (!isBusy(ask)) askForPairingCode({ complain, ask });
            },
        },
        el('label', { for: 'phone' }, text.phone.label),
        field,
        el('p.note', { id: 'phone-help' }, text.phone.help),
        problem,
        ask,
    );
    const ahead = passkeys.ahead();
    const boxes = el('p.letters.empty', { 'aria-hidden': 'true' }, ...[...'bbbbibbbb'].map((tag) => el(tag)));
    return {
        words: [form, ahead.element, el('p.alternative', {}, button(text.phone.byScan, scanInstead))],
        figure: [boxes],
        update: ahead.update,
        tick,
    };
}

/** Back to the camera. Where no code to scan is being made, one is asked for. */
async function scanInstead() {
    if (facts.pairing !== null || facts.qr?.status === 'pairing') {
        try {
            await call('DELETE', userPath(user, 'pairing-code'));
        } catch {
            return; // what is wrong shows in the session, or as a lost connection
        }
    }
    learn({ byPhone: false, pairing: null });
    if (viewOf({ ...facts, now: now() }).kind === 'timeout') ensure();
}

function pairingView() {
    const letters = new Letters(text.pairing.code);
    const number = el('p.number');
    const timer = new Timer((left) => text.pairing.left(Math.floor(left / 60), left % 60));
    const ahead = passkeys.ahead();
    const copied = { copied: text.pairing.copied, announcer: byId('announcer') };
    const copyCode = async () => {
        const isDone = await copy(facts.pairing.code, pressed, copied);
        if (!isDone) getSelection()?.selectAllChildren(letters.element);
    };
    const pressed = button(text.pairing.copy, copyCode, 'button');
    return {
        words: [
            steps(text.pairing.steps),
            ahead.element,
            el(
                'p.alternative',
                {},
                button(text.pairing.other, () => learn({ byPhone: true, pairing: null })),
                button(text.phone.byScan, scanInstead),
            ),
        ],
        figure: [number, letters.element, el('div.timer', {}, timer.bar, el('p', {}, timer.words)), pressed],
        update: () => {
            ahead.update();
            say(number, facts.pairing.number ? text.pairing.number(phoneText(facts.pairing.number)) : '');
            if (letters.show(facts.pairing.code)) timer.run(facts.pairing.expires_at);
        },
        tick: () => timer.tick(),
    };
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
    return {
        words: [el('p.identity', {}, name, number), el('p.note', {}, text.secure)],
        figure: [el('div.badge.good', {}, icon('check'))],
        update: () => {
            const { session } = facts.user;
            say(name, session?.name ? text.linkedAs(session.name) : '');
            say(number, session?.phone_number ? phoneText(session.phone_number) : '');
        },
    };
}

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
    const calm = ['timeout', 'idle', 'logged-out', 'stopped', 'deleted'].includes(view.kind);
    let cause = view.cause;
    return {
        words: [action ? el('p', {}, button(action, ensure, 'button primary')) : null, wait, box],
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
                shown.kind = null;
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
    render();
}, 500);
addEventListener('resize', () => {
    const panel = /** @type {HTMLElement|null} */ (document.querySelector('.code'));
    const svg = panel?.querySelector('svg');
    if (panel && svg) svg.replaceWith(sharp(svg, panel));
});

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
    passkeys.start();
}
