/** The dashboard: all users, live, and what an administrator does with them. */

import { address, call, token, userPath } from './api.mjs';
import { el, say, sayWithCode } from './dom.mjs';
import { bytes, moment } from './format.mjs';
import { ProcessorShares } from './processor.mjs';
import { GROUPS, conditionOf } from './states.mjs';
import { Stream } from './stream.mjs';
import { UserPanel } from './user-panel.mjs';
import { UsersTable } from './users-table.mjs';

/** Memory and CPU take the daemon milliseconds for each user, so only who looks is told, and not often. */
const MEASURE_MS = 10_500;
const LINK_SECONDS = 600;

const byId = (id) => document.getElementById(id);
const sentence = ({ message, hint }) => [message, hint].filter(Boolean).join('. ');

/** The users' documents, with the latest figures in `memory` (bytes) and `cpu` (share of a processor). */
const users = new Map();
/** Whom the stream has named since it began anew; null once it has named all. */
let named = new Set();
let complete = false;
const shares = new ProcessorShares();
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
            // Who was deleted while nothing was heard is named no more.
            for (const name of named === null ? [] : [...users.keys()])
                if (!named.has(name)) users.delete(name);
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
    try {
        const [{ alarm }, host, { users: documents }] = await Promise.all([
            call('GET', 'v1/health'),
            call('GET', 'v1/host'),
            call('GET', 'v1/users', { query: { usage: 'true' } }),
        ]);
        const at = performance.now();
        for (const { user: name, memory, cpu } of documents) {
            const user = users.get(name);
            if (user === undefined) continue;
            const share = shares.note(name, cpu?.seconds ?? null, at);
            users.set(name, { ...user, memory: memory?.bytes ?? null, cpu: share });
        }
        showHost(host);
        showAlarm(alarm);
        draw();
    } catch (problem) {
        if (problem.refused) refused(problem);
        // Of anything else the stream tells.
    }
}

function setLost(wait, problem = null) {
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

function refused(problem) {
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
    byId('token').focus();
}

// ---- what is shown ------------------------------------------------------------------------------

const connectAddress = (user) => address('connect', { user });

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

const panel = new UserPanel(byId('panel'), {
    connectAddress,
    onConnect,
    onAction,
    onClose: () => {
        const { user } = panel;
        history.replaceState(null, '', location.pathname + location.search);
        openPanel();
        document.querySelector(`[data-user="${CSS.escape(user)}"] .name`)?.focus();
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
        showGroups();
        const count = table.show(users);
        const all = table.query === '' && table.group === null;
        say(byId('announcer'), all ? '' : `${count} of ${users.size} users`);
        openPanel();
    });
}

function show(part) {
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

function showHost({ memory, load, cpus, running, max_running, memory_per_session, more_sessions }) {
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

/** Say that many users fail in the same way. */
function showAlarm(alarm) {
    byId('alarm').hidden = alarm === null;
    if (alarm === null) return;
    const build = alarm.build === null ? '' : ` (WhatsApp Web ${alarm.build})`;
    sayWithCode(
        byId('alarm-text'),
        `Since ${moment(alarm.since)}: ${alarm.message}${build}. ${alarm.hint}.`,
    );
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

const ACTIONS = {
    start: { method: 'POST' },
    restart: {
        method: 'POST',
        title: 'Restart',
        text: () =>
            'Its server ends and starts anew. The login is kept; requests on its port wait meanwhile.',
    },
    stop: {
        method: 'POST',
        title: 'Stop',
        text: () =>
            'Its server ends and its port closes until it is started again. The login is kept: nobody has to scan again.',
    },
    logout: {
        method: 'POST',
        title: 'Log out',
        danger: true,
        text: () =>
            'The phone is unlinked and the session is deleted from this host. To go on, somebody has to scan a code again.',
    },
    delete: {
        method: 'DELETE',
        title: 'Delete',
        danger: true,
        text: ({ port, linked }) =>
            `The server is stopped, its session is deleted and port ${port} is free for others. ` +
            'This cannot be undone.' +
            (linked
                ? ' The phone is not told and lists the device for some time; log out first to unlink it.'
                : ''),
    },
};

async function onAction(action, name, busy) {
    const { method, title, text, danger = false } = ACTIONS[action];
    const user = users.get(name);
    if (title && !(await confirmed(`${title} user ${name}?`, text(user), title, danger))) return null;
    busy(true);
    draw();
    try {
        const path = method === 'DELETE' ? userPath(name) : userPath(name, action);
        await call(method, path, { query: action === 'start' ? { wait: 'none' } : {} });
        return null;
    } catch (problem) {
        return problem;
    } finally {
        busy(false);
        draw();
    }
}

function confirmed(title, text, label, danger) {
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

/** A token does not go along with a link, so whoever has one gets the page by a link that is signed. */
async function onConnect(event, name) {
    if (token.get() === null) return;
    event.preventDefault();
    const page = open('', '_blank');
    try {
        const body = { ttl: LINK_SECONDS };
        const { path } = await call('POST', userPath(name, 'connect-link'), { body });
        page.location = new URL(path.replace(/^\//, ''), document.baseURI);
    } catch (problem) {
        page.close();
        say(byId('notice').firstElementChild, sentence(problem));
        byId('notice').hidden = false;
    }
}

function openCreate() {
    byId('create-form').reset();
    say(byId('create-problem'), '');
    byId('create').showModal();
}

async function create(event) {
    event.preventDefault();
    const name = byId('create-user').value.trim();
    try {
        await call('PUT', userPath(name || ' '), { query: { wait: 'none' } });
        byId('create').close();
        location.hash = encodeURIComponent(name);
    } catch (problem) {
        say(byId('create-problem'), sentence(problem));
        byId('create-user').focus();
    }
}

function signIn(event) {
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
byId('sorter').addEventListener('change', (event) => table.sortBy(event.target.value, false));
byId('search').addEventListener('input', (event) => {
    table.query = event.target.value.trim();
    draw();
});
byId('lost-retry').addEventListener('click', () => stream.hurry());
byId('notice-close').addEventListener('click', () => {
    byId('notice').hidden = true;
});
byId('new-user').addEventListener('click', openCreate);
byId('first-user').addEventListener('click', openCreate);
byId('create-cancel').addEventListener('click', () => byId('create').close());
byId('create-form').addEventListener('submit', create);
byId('sign-in-form').addEventListener('submit', signIn);
byId('sign-out').addEventListener('click', () => {
    token.forget();
    location.reload();
});
addEventListener('hashchange', draw);
document.addEventListener('keydown', (event) => {
    if (event.key !== '/' || event.target.matches('input, select') || document.querySelector('dialog[open]'))
        return;
    event.preventDefault();
    byId('search').focus();
});
document.addEventListener('visibilitychange', measure);
setInterval(measure, MEASURE_MS);
begin();
