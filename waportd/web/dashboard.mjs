/** The dashboard: all users, live, and what an administrator does with them. */

import { address, asProblem, call, token, userPath } from './api.mjs';
import { ChangesDialog } from './changes.mjs';
import { el, say, sayWithCode } from './dom.mjs';
import { bytes, diskText, moment } from './format.mjs';
import { ProcessorShares } from './processor.mjs';
import { GROUPS, conditionOf, diskOf } from './states.mjs';
import { Stream } from './stream.mjs';
import { UserPanel } from './user-panel.mjs';
import { UsersTable } from './users-table.mjs';

/** Memory and CPU cost the daemon milliseconds for each user, so only an open page asks, and not often. */
const MEASURE_MS = 10_500;
const LINK_S = 600;

/** An element of the page's own document, of the kind that it has there. @returns {any} */
const byId = (/** @type {string} */ id) => document.getElementById(id);
const sentence = (/** @type {{message: string, hint: string|null}} */ { message, hint }) =>
    [message, hint].filter(Boolean).join('. ');

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
    say(
        byId('lost-text'),
        problem?.hint
            ? `${problem.message}. ${problem.hint}`
            : 'The daemon does not answer. What you see may be out of date.',
    );
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
    say(byId('token-problem'), given ? sentence(problem) : '');
    byId('sign-out').hidden = true;
    byId('new-user').hidden = true;
    byId('changes-open').hidden = true;
    byId('token').focus();
}

// ---- what is shown ------------------------------------------------------------------------------

const connectAddress = (/** @type {string} */ user) => address('connect', { user });

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
        say(byId('announcer'), all ? '' : `${count} of ${users.size} users`);
        openPanel();
    });
}

function show(/** @type {string} */ part) {
    for (const id of ['loading', 'empty', 'sign-in', 'main']) byId(id).hidden = id !== part;
    byId('host').hidden = !['main', 'empty'].includes(part) || byId('host-room').textContent === '';
}

function showGroups() {
    const count = Object.fromEntries(Object.keys(GROUPS).map((group) => [group, 0]));
    for (const user of users.values()) count[conditionOf(user).group] += 1;
    for (const button of byId('groups').children) {
        const group = button.value || null;
        say(button.lastElementChild, String(group === null ? users.size : count[group]));
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
    say(byId('host-running'), max_running ? `${running} of ${max_running}` : String(running));
    say(byId('host-load'), `${load[0].toFixed(1)} on ${cpus} CPUs`);
    say(byId('host-memory'), `${bytes(used)} of ${bytes(memory.total)}`);
    byId('host-meter').style.width = `${(100 * used) / memory.total}%`;
    say(byId('host-room'), more_sessions === null ? 'no limit known' : `${more_sessions} more sessions`);
    byId('host-room').title = memory_per_session ? `at ${bytes(memory_per_session)} each` : '';
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
    const most = `user ${largest.user}, ${diskText(largest.storage ?? disk)}`;
    place.title = `${diskText(disk)}; the largest: ${most}`;
}

/** Say that many users fail in the same way. */
function showAlarm(/** @type {import('./types').Alarm|null} */ alarm) {
    byId('alarm').hidden = alarm === null;
    if (alarm === null) return;
    const build = alarm.build === null ? '' : ` (WhatsApp Web ${alarm.build})`;
    sayWithCode(byId('alarm-text'), `Since ${moment(alarm.since)}: ${alarm.message}${build}. ${alarm.hint}.`);
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

/**
 * @typedef {object} Deed
 * @property {string} method
 * @property {string} [title] asked for before it is done
 * @property {(user: import('./types').User) => string} [text]
 * @property {boolean} [danger]
 */

const ACTIONS = /** @type {Record<string, Deed>} */ ({
    start: { method: 'POST' },
    restart: {
        method: 'POST',
        title: 'Restart',
        text: () => 'The server is restarted. The login is kept; requests on its port wait meanwhile.',
    },
    stop: {
        method: 'POST',
        title: 'Stop',
        text: () =>
            'The server stops and its port closes until it is started again. The login is kept: no new scan is needed.',
    },
    logout: {
        method: 'POST',
        title: 'Log out',
        danger: true,
        text: () =>
            'The phone is unlinked and the session is deleted from this host. To continue, somebody has to scan a code again.',
    },
    delete: {
        method: 'DELETE',
        title: 'Delete',
        danger: true,
        text: (/** @type {import('./types').User} */ { port, linked }) =>
            `The server is stopped, its session is deleted and port ${port} is free for others. ` +
            'This cannot be undone.' +
            (linked
                ? ' The phone is not notified and lists the device for some time; log out first to unlink it.'
                : ''),
    },
});

async function onAction(
    /** @type {string} */ action,
    /** @type {string} */ name,
    /** @type {(now: boolean) => void} */ busy,
) {
    const { method, title, text, danger = false } = ACTIONS[action];
    const user = users.get(name);
    if (user === undefined) return null;
    const isSure = !title || (await confirmed(`${title} user ${name}?`, text?.(user) ?? '', title, danger));
    if (!isSure) return null;
    busy(true);
    draw();
    try {
        const path = method === 'DELETE' ? userPath(name) : userPath(name, action);
        await call(method, path, { query: action === 'start' ? { wait: 'none' } : {} });
        return null;
    } catch (error) {
        return asProblem(error);
    } finally {
        busy(false);
        draw();
    }
}

function confirmed(
    /** @type {string} */ title,
    /** @type {string} */ text,
    /** @type {string} */ label,
    /** @type {boolean} */ danger,
) {
    const dialog = byId('confirm');
    const yes = byId('confirm-yes');
    say(byId('confirm-title'), title);
    say(byId('confirm-text'), text);
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
        const href = String(new URL(path.replace(/^\//, ''), document.baseURI));
        if (page !== null) page.location.href = href;
        else notify('The browser blocked the new tab. ', openLink(href, name));
    } catch (error) {
        page?.close();
        notify(sentence(asProblem(error)));
    }
}

/** A link to a user's page, which expires: the notice closes with its click. */
function openLink(/** @type {string} */ href, /** @type {string} */ name) {
    const onclick = () => {
        byId('notice').hidden = true;
    };
    return el('a', { href, target: '_blank', rel: 'noopener', onclick }, `Open the page of user ${name}`);
}

function notify(/** @type {(Node|string)[]} */ ...parts) {
    byId('notice').firstElementChild.replaceChildren(...parts);
    byId('notice').hidden = false;
}

function openCreate() {
    byId('create-form').reset();
    say(byId('create-problem'), '');
    byId('create').showModal();
}

async function create(/** @type {SubmitEvent} */ event) {
    event.preventDefault();
    const name = byId('create-user').value.trim();
    try {
        await call('PUT', userPath(name || ' '), { query: { wait: 'none' } });
        byId('create').close();
        location.hash = encodeURIComponent(name);
    } catch (error) {
        say(byId('create-problem'), sentence(asProblem(error)));
        byId('create-user').focus();
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
    ...[['', 'All'], ...Object.entries(GROUPS)].map(([group, label]) =>
        el(
            'button',
            {
                type: 'button',
                value: group,
                'data-group': group || null,
                'aria-pressed': 'false',
                onclick: () => {
                    table.group = group || null;
                    draw();
                },
            },
            label,
            el('span', {}, '0'),
        ),
    ),
);
byId('sorter').append(
    ...Object.entries(table.columns).map(([column, label]) =>
        el('option', { value: column }, `Sort by ${label.toLowerCase()}`),
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
    if (event.key !== '/' || target.matches('input, select') || document.querySelector('dialog[open]'))
        return;
    event.preventDefault();
    byId('search').focus();
});
document.addEventListener('visibilitychange', measure);
setInterval(measure, MEASURE_MS);
begin();
