/** The connect page: gives one user's phone a code to link with, and follows what becomes of it. */

import { Problem, address, call, now, send, userPath } from './api.mjs';
import { viewOf } from './connect-view.mjs';
import { el, icon, say } from './dom.mjs';
import { phoneOf, phoneText } from './phone.mjs';
import { Stream } from './stream.mjs';
import { texts } from './texts.mjs';

const SLOW_MS = 20_000;
const COPIED_MS = 2_000;

const text = texts[document.documentElement.lang] ?? texts.en;
const user = new URLSearchParams(location.search).get('user') ?? '';
const byId = (id) => document.getElementById(id);

/** All that is known, from which the view follows. */
const facts = { user: null, qr: null, problem: null, pairing: null, byPhone: false, deleted: false };
let retryAt = null;
let lost = false;
let phone = text.phone.prefix;

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

function learn(news) {
    Object.assign(facts, news);
    render();
}

/** Have the user's server run, and follow it. */
async function ensure() {
    retryAt = null;
    try {
        await call('PUT', userPath(user), { query: { wait: 'none' } });
    } catch (problem) {
        retryAt = Date.now() + (problem.retryAfter ?? (problem.unreachable ? 2 : 30)) * 1000;
        setLost(problem.unreachable);
        learn({ problem });
        return;
    }
    setLost(false);
    learn({ problem: null, deleted: false });
    stream.start();
}

async function askForPairingCode(form) {
    const number = phoneOf(phone);
    form.complain(
        number === null ? (/^\s*\+?\s*0/.test(phone) ? text.phone.zero : text.phone.invalid) : null,
    );
    if (number === null) return;
    form.busy(true);
    try {
        const { code, expires_at } = await call('POST', userPath(user, 'pairing-code'), {
            body: { phone: number },
        });
        learn({ pairing: { code, expires_at } });
    } catch (problem) {
        const words = text.pairingProblems;
        const known = words[problem.cause] ?? words[problem.code] ?? words.other;
        form.complain(typeof known === 'function' ? known(problem.retryAfter ?? 60) : known);
    } finally {
        form.busy(false);
    }
}

function setLost(is) {
    lost = is;
    byId('lost').hidden = !is;
}

// ---- what is shown ------------------------------------------------------------------------------

/** The view that is shown now: its kind, and what changes in it while it stays. */
let shown = { kind: null, since: 0, update: () => {}, tick: () => {} };

function render() {
    const view = viewOf({ ...facts, now: now() });
    if (view.kind !== shown.kind) replace(view);
    shown.update(view);
    shown.tick();
}

function replace(view) {
    const place = byId('view');
    // Who works in the view by keyboard goes on in the next one; nobody else's focus is moved.
    const working = place.contains(document.activeElement);
    const { words, figure, update = () => {}, tick = () => {} } = build(view);
    shown = { kind: view.kind, since: Date.now(), update, tick };
    const { title, text: lead } = wordsOf(view);
    const heading = el('h1', { tabindex: '-1' }, title);
    place.replaceChildren(
        el('div.words', {}, heading, lead ? el('p.lead', { id: 'lead' }, lead) : null, ...words),
        el('div.figure', {}, ...figure),
    );
    place.dataset.kind = view.kind;
    document.title = title;
    showStation(view.station);
    if (working) heading.focus();
    say(byId('announcer'), [title, lead].filter(Boolean).join('. '));
}

function wordsOf({ kind, cause }) {
    const about = text.views[kind];
    return kind === 'error' || kind === 'failed' ? { ...about, ...text.causes[cause] } : about;
}

function showStation(station) {
    byId('stations').hidden = station === null;
    byId('stations').replaceChildren(
        ...text.stations.map((name, index) =>
            el(
                'li',
                {
                    class: index < station ? 'done' : null,
                    'aria-current': index === station ? 'step' : null,
                },
                el('span', {}, name),
            ),
        ),
    );
}

/** Make the view of a kind. */
function build(view) {
    const make = {
        code: scanView,
        phone: phoneView,
        pairing: pairingView,
        linking: linkingView,
        linked: linkedView,
    };
    if (view.kind in make) return make[view.kind](view);
    return ['preparing', 'stopping', 'reconnecting'].includes(view.kind)
        ? waitingView(view)
        : troubleView(view);
}

function waitingView({ kind }) {
    return {
        words: [],
        figure: [skeleton(true)],
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
    let drawn = null;
    return {
        words: [
            steps(text.scan.steps),
            el(
                'p.alternative',
                {},
                button(text.scan.byPhone, () => learn({ byPhone: true })),
            ),
            el('p.note', {}, text.scan.secret),
        ],
        figure: [panel, el('div.timer', {}, timer.bar, el('p', {}, timer.words, attempt))],
        update: ({ qr = facts.qr }) => {
            say(attempt, qr.attempt > 1 ? text.scan.attempt(qr.attempt, qr.attempts) : '');
            if (qr.qr === drawn) return;
            drawn = qr.qr;
            timer.run(drawn === null ? null : qr.expires_at);
            if (drawn === null) panel.replaceChildren(skeleton(true));
            else draw(panel, () => drawn === qr.qr);
        },
        tick: () => {
            timer.tick();
            // A dead code is not left on show, also where nothing is heard any more.
            if (drawn !== null && timer.over) {
                drawn = null;
                panel.replaceChildren(skeleton(true));
            }
        },
    };
}

/** Draw the present code. One that comes too late is not drawn. */
async function draw(panel, isWanted) {
    try {
        const headers = { Accept: 'image/svg+xml' };
        const answer = await send('GET', userPath(user, 'qr'), { query: { format: 'svg' }, headers });
        const picture = new DOMParser().parseFromString(await answer.text(), 'image/svg+xml').documentElement;
        if (!isWanted() || picture.nodeName !== 'svg') return;
        panel.replaceChildren(sharp(picture));
    } catch (problem) {
        // Without a code any more there is a newer event on its way.
        if (problem.status !== 409 && isWanted())
            setTimeout(() => isWanted() && draw(panel, isWanted), 1_000);
    }
}

/** Make a picture as large as its place allows with every module a whole number of the screen's pixels. */
function sharp(picture) {
    const svg = document.importNode(picture, true);
    svg.setAttribute('shape-rendering', 'crispEdges');
    svg.setAttribute('aria-hidden', 'true');
    const scale = svg.querySelector('[transform]')?.transform.baseVal.consolidate().matrix.a ?? 1;
    const modules = svg.viewBox.baseVal.width / scale;
    const place = Math.min(320, document.documentElement.clientWidth - 64) * devicePixelRatio;
    const side = (Math.max(1, Math.floor(place / modules)) * modules) / devicePixelRatio;
    svg.setAttribute('width', side);
    svg.setAttribute('height', side);
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
    const complain = (words) => {
        say(problem, words ?? '');
        field.setAttribute('aria-invalid', String(words !== null));
        if (words !== null) field.focus();
    };
    const busy = (is) => {
        ask.disabled = is;
        ask.replaceChildren(
            ...(is ? [el('span.spinner', { 'aria-hidden': 'true' }), text.phone.asking] : [text.phone.ask]),
        );
    };
    const form = el(
        'form',
        {
            novalidate: true,
            onsubmit: (event) => {
                event.preventDefault();
                if (!ask.disabled) askForPairingCode({ complain, busy });
            },
        },
        el('label', { for: 'phone' }, text.phone.label),
        field,
        el('p.note', { id: 'phone-help' }, text.phone.help),
        problem,
        ask,
    );
    const boxes = el('p.letters.empty', { 'aria-hidden': 'true' }, ...[...'bbbbibbbb'].map((tag) => el(tag)));
    return {
        words: [form, el('p.alternative', {}, button(text.phone.byScan, scanInstead))],
        figure: [boxes],
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
    const letters = el('p.letters', { role: 'img' });
    const timer = new Timer((left) => text.pairing.left(Math.floor(left / 60), left % 60));
    const copy = button(text.pairing.copy, () => copyCode(letters, copy), 'button');
    let drawn = null;
    return {
        words: [
            steps(text.pairing.steps),
            el(
                'p.alternative',
                {},
                button(text.pairing.other, () => learn({ byPhone: true, pairing: null })),
                button(text.phone.byScan, scanInstead),
            ),
        ],
        figure: [letters, el('div.timer', {}, timer.bar, el('p', {}, timer.words)), copy],
        update: () => {
            const { code, expires_at } = facts.pairing;
            if (code === drawn) return;
            drawn = code;
            letters.replaceChildren(...[...code].map((letter) => el(letter === '-' ? 'i' : 'b', {}, letter)));
            letters.setAttribute(
                'aria-label',
                `${text.pairing.code}: ${[...code.replace('-', '')].join(' ')}`,
            );
            timer.run(expires_at);
        },
        tick: () => timer.tick(),
    };
}

async function copyCode(letters, copy) {
    try {
        await navigator.clipboard.writeText(facts.pairing.code);
    } catch {
        // Not allowed here (an embedding page has to grant it): what is selected can be copied by hand.
        getSelection().selectAllChildren(letters);
        return;
    }
    say(copy, text.pairing.copied);
    say(byId('announcer'), text.pairing.copied);
    setTimeout(() => say(copy, text.pairing.copy), COPIED_MS);
}

function linkingView() {
    const bar = el('progress', { max: '100', 'aria-labelledby': 'lead' });
    const percent = el('span', { 'aria-hidden': 'true' });
    return {
        words: [el('p.progress', {}, bar, percent)],
        figure: [el('div.badge.work', {}, el('span.spinner', { 'aria-hidden': 'true' }))],
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
function troubleView(view) {
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
        update: (now_) => {
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

const secondsUntil = (ms) => Math.max(0, Math.ceil((ms - Date.now()) / 1000));

const button = (label, onclick, kind = 'button text') =>
    el('button', { class: kind, type: 'button', onclick }, label);

/** A list of steps; what stands <so> in a text is what the phone shows. */
function steps(list) {
    const marked = (line) =>
        line.split(/<(.+?)>/).map((part, index) => (index % 2 ? el('strong', {}, part) : part));
    return el('ol.steps', {}, ...list.map((line) => el('li', {}, ...marked(line))));
}

/** The place of a code that is not there yet. */
function skeleton(busy) {
    const corner = () => el('i');
    return el(
        'div.skeleton',
        { 'aria-hidden': 'true' },
        corner(),
        corner(),
        corner(),
        busy ? el('span.spinner') : null,
    );
}

/** How long a code is valid: a bar that runs out, and words that are nowhere announced. */
class Timer {
    bar = el('div.bar', { 'aria-hidden': 'true' }, el('div'));
    words = el('span');
    #say;
    #until = null;

    /** @param {(seconds: number) => string} words */
    constructor(words) {
        this.#say = words;
    }

    get over() {
        return this.#until !== null && this.#until <= now();
    }

    /** @param {?string} until when it ends; null for now */
    run(until) {
        this.#until = until === null ? 0 : Date.parse(until);
        const left = Math.max(0, this.#until - now());
        const still = matchMedia('(prefers-reduced-motion: reduce)').matches;
        const line = this.bar.firstChild;
        for (const animation of line.getAnimations()) animation.cancel();
        line.animate([{ transform: 'scaleX(1)' }, { transform: 'scaleX(0)' }], {
            duration: left,
            fill: 'forwards',
            easing: still ? `steps(${Math.max(1, Math.round(left / 5000))})` : 'linear',
        });
    }

    tick() {
        if (this.#until !== null)
            say(this.words, this.#say(Math.max(0, Math.ceil((this.#until - now()) / 1000))));
    }
}

// ---- beginning ----------------------------------------------------------------------------------

say(byId('lost-text'), text.lost);
say(byId('lost-retry'), text.tryNow);
byId('lost-retry').addEventListener('click', () => (retryAt === null ? stream.hurry() : ensure()));
setInterval(() => {
    if (retryAt !== null && Date.now() >= retryAt && (lost || shown.kind === 'busy')) ensure();
    render();
}, 500);
addEventListener('resize', () => {
    const svg = document.querySelector('.code svg');
    if (svg) svg.replaceWith(sharp(svg));
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
}
