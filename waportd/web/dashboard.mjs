/** The dashboard: all users, live, and what an administrator does with them. */

import { address, asProblem, call, token, userPath } from './api.mjs';
import { ChangesDialog } from './changes.mjs';
import { busy, el, idle, isBusy, say, sayWithCode } from './dom.mjs';
import { bytes, diskText, explained, figure, moment } from './format.mjs';
import { ProcessorShares } from './processor.mjs';
import { GROUPS, conditionOf, diskOf } from './states.mjs';
import { Stream } from './stream.mjs';
import { dashboardText as text } from './texts.mjs';
import { UserPanel } from './user-panel.mjs';
import { UsersTable } from './users-table.mjs';

/** Memory and CPU cost the daemon milliseconds for each user, so only an open page asks, and not often. */
const MEASURE_MS = 10_500;
const LINK_S = 600;

/** An element of the page's own document, of the kind that it has there. @returns {any} */
const byId = (/** @type {string} */ id) => document.getElementById(id);

/** Say something in the language of the page. */
function sayHere(/** @type {HTMLElement} */ place, /** @type {string} */ words) {
    place.lang = text.language;
    say(place, words);
}

/** Say what went wrong, in the language that there are words in. */
function explain(/** @type {HTMLElement} */ place, /** @type {import('./api.mjs').Problem} */ problem) {
    sayHere(place, explained(problem));
    if (problem.status !== 0) place.lang = 'en';
}

/** The words that dashboard.html names: `page.close`. @returns {string} */
const wordsAt = (/** @type {string} */ name) =>
    name.split('.').reduce((/** @type {any} */ words, part) => words[part], text);

for (const place of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll('[data-say]')))
    say(place, wordsAt(place.dataset.say ?? ''));
for (const [kind, attribute] of [
    ['label', 'aria-label'],
    ['hint', 'placeholder'],
])
    for (const place of document.querySelectorAll(`[data-${kind}]`))
        place.setAttribute(attribute, wordsAt(place.getAttribute(`data-${kind}`) ?? ''));

/** The users' documents, with the latest figures in `memory` (bytes) and `cpu` (share of a processor). */
/** @type {Map<string, import('./types').User>} */
const users = new Map();
/** The users that the stream has named since it began again; null once it has named all. */
let named = /** @type {Set<string>|null} */ (new Set());
let complete = false;
const shares = new ProcessorShares();
/** Since when nothing is heard, in milliseconds. @type {number|null} */
let lostAt = null;
let drawn = null;

// ---- what the daemon says -----------------------------------------------------------------------

const stream = new Stream('v1/events', {
    on: {
        user: (user) => {
            const { memory = null, cpu = null } = users.get(user.user) ?? {};
            const runs = user.process.pid !== null;
            users.set(user.user, { ...user, memory: runs ? memory : null, cpu: runs ? cpu : null });
            named?.add(user.user);
            draw();
        },
        deleted: ({ user }) => {
            users.delete(user);
            draw();
        },
        reset: () => {
            named = new Set();
        },
        complete: () => {
            // A user who was deleted meanwhile is not named again.
            for (const name of named === null ? [] : [...users.keys()])
                if (!named?.has(name)) users.delete(name);
            named = null;
            complete = true;
            draw();
            measure();
        },
    },
    onLive: () => setLost(null),
    onLost: (wait, problem) => setLost(wait, problem),
    onRefused: (problem) => refused(problem),
});

async function measure() {
    if (document.hidden || !complete || lostAt !== null) return;
    const before = new Map(users);
    try {
        const [{ alarm }, host, { users: documents }] = await Promise.all([
            call('GET', 'v1/health'),
            call('GET', 'v1/host'),
            call('GET', 'v1/users', { query: { usage: 'true' } }),
        ]);
        const at = performance.now();
        for (const { user: name, memory, cpu, summary } of documents) {
            const user = users.get(name);
            if (user === undefined) continue;
            const share = shares.note(name, cpu?.seconds ?? null, at);
            const measured = { ...user, memory: memory?.bytes ?? null, cpu: share };
            // Messages that wait too long make no event. Later events are newer than this answer.
            users.set(name, user === before.get(name) ? { ...measured, summary } : measured);
        }
        showHost(host);
        showAlarm(alarm);
        draw();
    } catch (error) {
        const problem = asProblem(error);
        if (problem.refused) refused(problem);
        // The stream reports anything else.
    }
}

function setLost(/** @type {number|null} */ wait, /** @type {any} */ problem = null) {
    if (wait === null) lostAt = null;
    else lostAt ??= Date.now();
    byId('lost').hidden = wait === null;
    if (problem?.hint) explain(byId('lost-text'), problem);
    else sayHere(byId('lost-text'), text.lost);
    document.body.classList.toggle('stale', wait !== null);
}

function refused(/** @type {import('./api.mjs').Problem} */ problem) {
    stream.stop();
    stream.forget();
    setLost(null);
    showAlarm(null);
    const given = token.get() !== null;
    token.forget();
    complete = false;
    users.clear();
    panel.close();
    show('sign-in');
    if (problem.status === 401) sayHere(byId('token-problem'), given ? text.signIn.unknown : '');
    else explain(byId('token-problem'), problem);
    byId('sign-out').hidden = true;
    byId('new-user').hidden = true;
    byId('changes-open').hidden = true;
    byId('token').focus();
}

// ---- what is shown ------------------------------------------------------------------------------

/** In the language of this page, where its address names one. */
const chosen = new URLSearchParams(location.search).get('lang');
const connectAddress = (/** @type {string} */ user) =>
    address('connect', { user, ...(chosen === null ? {} : { lang: chosen }) });

const table = new UsersTable(byId('users'), {
    connectAddress,
    onConnect,
    onOpen: (user) => {
        location.hash = encodeURIComponent(user);
    },
    onSort: () => {
        byId('sorter').value = table.column;
        draw();
    },
    onClear: () => {
        table.query = byId('search').value = '';
        table.group = null;
        byId('search').focus();
        draw();
    },
});

const changes = new ChangesDialog(byId('changes'));

const panel = new UserPanel(byId('panel'), {
    connectAddress,
    onConnect,
    onAction,
    onChanges: (user) => changes.open(user),
    onClose: () => {
        const { user } = panel;
        history.replaceState(null, '', location.pathname + location.search);
        openPanel();
        /** @type {HTMLElement|null} */ (
            document.querySelector(`[data-user="${CSS.escape(user)}"] .name`)
        )?.focus();
    },
});

/** Draw what has changed, once per frame at most. */
function draw() {
    drawn ??= requestAnimationFrame(() => {
        drawn = null;
        if (!complete) return;
        show(users.size ? 'main' : 'empty');
        byId('new-user').hidden = users.size === 0;
        byId('sign-out').hidden = token.get() === null;
        byId('changes-open').hidden = false;
        showGroups();
        showDisk();
        const count = table.show(users);
        const all = table.query === '' && table.group === null;
        say(byId('announcer'), all ? '' : text.table.count(figure(count), figure(users.size)));
        openPanel();
    });
}

function show(/** @type {string} */ part) {
    for (const id of ['loading', 'empty', 'sign-in', 'main']) byId(id).hidden = id !== part;
    byId('host').hidden = !['main', 'empty'].includes(part) || byId('host-room').textContent === '';
}

function showGroups() {
    const count = Object.fromEntries(GROUPS.map((group) => [group, 0]));
    for (const user of users.values()) count[conditionOf(user).group] += 1;
    for (const button of byId('groups').children) {
        const group = button.value || null;
        say(button.lastElementChild, figure(group === null ? users.size : count[group]));
        button.setAttribute('aria-pressed', String(group === table.group));
    }
}

function showHost(
    /** @type {import('./types').Host} */ {
        memory,
        load,
        cpus,
        running,
        max_running,
        memory_per_session,
        more_sessions,
    },
) {
    const used = memory.total - memory.available;
    say(
        byId('host-running'),
        max_running ? text.host.running(figure(running), figure(max_running)) : figure(running),
    );
    say(byId('host-load'), text.host.load(figure(load[0], 1), figure(cpus)));
    say(byId('host-memory'), text.host.memory(bytes(used), bytes(memory.total)));
    byId('host-meter').style.width = `${(100 * used) / memory.total}%`;
    say(
        byId('host-room'),
        more_sessions === null ? text.host.noLimit : text.host.room(figure(more_sessions)),
    );
    byId('host-room').title = memory_per_session ? text.host.each(bytes(memory_per_session)) : '';
    byId('host-room').classList.toggle('none', more_sessions === 0);
    byId('host').hidden = byId('main').hidden && byId('empty').hidden;
}

/** Say what the sessions keep on disk, and whose is the largest. */
function showDisk() {
    const disk = diskOf(users.values());
    const place = byId('host-disk');
    place.hidden = disk === null;
    if (disk === null) return;
    const { largest } = disk;
    say(place.lastElementChild, bytes(disk.login + disk.cache + disk.journal));
    place.title = text.host.disk(diskText(disk), largest.user, diskText(largest.storage ?? disk));
}

/** Say that many users fail in the same way. */
function showAlarm(/** @type {import('./types').Alarm|null} */ alarm) {
    byId('alarm').hidden = alarm === null;
    if (alarm === null) return;
    const build = alarm.build === null ? '' : ` (WhatsApp Web ${alarm.build})`;
    say(byId('alarm-since'), text.alarm(moment(alarm.since)));
    sayWithCode(byId('alarm-text'), `${alarm.message}${build}. ${alarm.hint}.`);
}

/** Show the user that the address names after its #. */
function openPanel() {
    const name = decodeURIComponent(location.hash.slice(1));
    const user = users.get(name);
    if (user === undefined) panel.close();
    else if (panel.user === name) panel.show(user);
    else panel.open(user);
    table.select(panel.user);
    document.body.classList.toggle('with-panel', panel.user !== null);
}

// ---- what is done -------------------------------------------------------------------------------

/** What is done by which call. @type {Record<string, {method: string, danger?: boolean}>} */
const ACTIONS = {
    start: { method: 'POST' },
    restart: { method: 'POST' },
    stop: { method: 'POST' },
    logout: { method: 'POST', danger: true },
    delete: { method: 'DELETE', danger: true },
};

/** What is asked before something is done to a user; null where that needs no question. */
function questionOf(/** @type {string} */ action, /** @type {import('./types').User} */ { port, linked }) {
    const words = /** @type {Record<string, import('./types').ActionWords>} */ (text.actions)[action];
    if (words.ask === undefined) return null;
    const about = typeof words.text === 'function' ? words.text(port) : words.text;
    return { ...words, about: linked && words.linked ? `${about} ${words.linked}` : about };
}

async function onAction(
    /** @type {string} */ action,
    /** @type {string} */ name,
    /** @type {(now: boolean) => void} */ setBusy,
) {
    const { method, danger = false } = ACTIONS[action];
    const user = users.get(name);
    if (user === undefined) return null;
    const question = questionOf(action, user);
    const isSure =
        question === null ||
        (await confirmed(question.ask?.(name) ?? '', question.about ?? '', question.label, danger));
    if (!isSure) return null;
    setBusy(true);
    draw();
    try {
        const path = method === 'DELETE' ? userPath(name) : userPath(name, action);
        await call(method, path, { query: action === 'start' ? { wait: 'none' } : {} });
        return null;
    } catch (error) {
        return asProblem(error);
    } finally {
        setBusy(false);
        draw();
    }
}

function confirmed(
    /** @type {string} */ title,
    /** @type {string} */ about,
    /** @type {string} */ label,
    /** @type {boolean} */ danger,
) {
    const dialog = byId('confirm');
    const yes = byId('confirm-yes');
    say(byId('confirm-title'), title);
    say(byId('confirm-text'), about);
    say(yes, label);
    yes.className = `button ${danger ? 'danger' : 'primary'}`;
    dialog.returnValue = '';
    dialog.showModal();
    return new Promise((resolve) => {
        dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), { once: true });
    });
}

/** A link carries no token, so a page with a token opens the connect page by a signed link. */
async function onConnect(/** @type {Event} */ event, /** @type {string} */ name) {
    if (token.get() === null) return;
    event.preventDefault();
    // Now, while the click still lets the page open a tab; null where the browser lets it open none.
    const page = open('', '_blank');
    try {
        const body = { ttl: LINK_S };
        const { path } = await call('POST', userPath(name, 'connect-link'), { body });
        const link = new URL(path.replace(/^\//, ''), document.baseURI);
        if (chosen !== null) link.searchParams.set('lang', chosen);
        if (page !== null) page.location.href = String(link);
        else notify(`${text.blocked} `, openLink(String(link), name));
    } catch (error) {
        page?.close();
        const words = el('span');
        explain(words, asProblem(error));
        notify(words);
    }
}

/** A link to a user's page, which expires: the notice closes with its click. */
function openLink(/** @type {string} */ href, /** @type {string} */ name) {
    const onclick = () => {
        byId('notice').hidden = true;
    };
    return el('a', { href, target: '_blank', rel: 'noopener', onclick }, text.openPage(name));
}

function notify(/** @type {(Node|string)[]} */ ...parts) {
    byId('notice').firstElementChild.replaceChildren(...parts);
    byId('notice').hidden = false;
}

function openCreate() {
    if (isBusy(byId('new-user'))) return;
    byId('create-form').reset();
    say(byId('create-problem'), '');
    byId('create').showModal();
}

async function create(/** @type {SubmitEvent} */ event) {
    event.preventDefault();
    const pressed = byId('create-submit');
    if (isBusy(pressed)) return;
    const name = byId('create-user').value.trim();
    const problemLine = byId('create-problem');
    sayHere(problemLine, '');
    for (const one of [pressed, byId('new-user')]) busy(one, text.create.busy);
    try {
        await call('PUT', userPath(name || ' '), { query: { wait: 'none' } });
        // A person who has closed it meanwhile looks at something else.
        if (byId('create').open) location.hash = encodeURIComponent(name);
        byId('create').close();
    } catch (error) {
        const problem = asProblem(error);
        if (problem.status === 400) sayHere(problemLine, text.create.invalid);
        else explain(problemLine, problem);
        if (!byId('create').open) notify(problemLine.textContent);
        byId('create-user').focus();
    } finally {
        idle(pressed, text.create.action);
        idle(byId('new-user'), text.page.newUser);
    }
}

function signIn(/** @type {SubmitEvent} */ event) {
    event.preventDefault();
    const typed = byId('token').value.trim();
    if (typed === '') return;
    token.set(typed);
    byId('token').value = '';
    begin();
}

function begin() {
    show('loading');
    named = new Set();
    stream.start();
}

// ---- beginning ----------------------------------------------------------------------------------

byId('groups').append(
    ...[null, ...GROUPS].map((group) =>
        el(
            'button',
            {
                type: 'button',
                value: group ?? '',
                'data-group': group,
                'aria-pressed': 'false',
                onclick: () => {
                    table.group = group;
                    draw();
                },
            },
            text.groups[group ?? 'all'],
            el('span', {}, figure(0)),
        ),
    ),
);
byId('sorter').append(
    ...Object.entries(text.table.columns).map(([column, label]) =>
        el('option', { value: column }, text.table.sortBy(label)),
    ),
);
byId('sorter').value = table.column;
byId('sorter').addEventListener('change', (/** @type {Event & {target: HTMLInputElement}} */ event) =>
    table.sortBy(event.target.value, false),
);
byId('search').addEventListener('input', (/** @type {Event & {target: HTMLInputElement}} */ event) => {
    table.query = event.target.value.trim();
    draw();
});
byId('keys-list').append(
    ...text.keys.list.map(([keys, what]) =>
        el('div', {}, el('dt', {}, ...keys.split(' ').map((key) => el('kbd', {}, key))), el('dd', {}, what)),
    ),
);
byId('keys-open').addEventListener('click', () => byId('keys').showModal());
// The head of the table stays below the tools, however many lines these need.
new window.ResizeObserver(() =>
    byId('list').style.setProperty('--tools', `${byId('tools').offsetHeight}px`),
).observe(byId('tools'));
byId('lost-retry').addEventListener('click', () => stream.hurry());
byId('notice-close').addEventListener('click', () => {
    byId('notice').hidden = true;
});
byId('new-user').addEventListener('click', openCreate);
byId('first-user').addEventListener('click', openCreate);
byId('changes-open').addEventListener('click', () => changes.open());
byId('create-cancel').addEventListener('click', () => byId('create').close());
byId('create-form').addEventListener('submit', create);
byId('sign-in-form').addEventListener('submit', signIn);
byId('sign-out').addEventListener('click', () => {
    token.forget();
    location.reload();
});
addEventListener('hashchange', draw);
document.addEventListener('keydown', (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    const keys = /** @type {Record<string, () => void>} */ ({
        '/': () => byId('search').focus(),
        '?': () => byId('keys').showModal(),
    });
    if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
    if (target.matches('input, select') || document.querySelector('dialog[open]')) return;
    event.preventDefault();
    keys[event.key]();
});
document.addEventListener('visibilitychange', measure);
setInterval(measure, MEASURE_MS);
begin();
