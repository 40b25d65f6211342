/** The dashboard: all users that the caller may see, live, and what can be done with them. */

import { asProblem, call, token, userPath } from './api.mjs';
import { connectAddress, openConnect } from './connect-tab.mjs';
import { CreateDialog } from './create-dialog.mjs';
import { GROUPS } from './contract.mjs';
import { csvOf } from './csv.mjs';
import { busy, byId, el, idle, isBusy, save, say } from './dom.mjs';
import { figure } from './format.mjs';
import { hasHost, showAlarm, showDisk, showHost } from './host-figures.mjs';
import { later, loadTheRest } from './later.mjs';
import { LiveUsers } from './live-users.mjs';
import { rights } from './rights.mjs';
import { closeNotice, explain, notifyOf, sayHere } from './saying.mjs';
import { SelectionBar } from './selection-bar.mjs';
import { Selection } from './selection.mjs';
import { conditionOf } from './states.mjs';
import { dashboardText as text } from './texts.mjs';
import { actIfSure } from './user-actions.mjs';
import { UsersTable } from './users-table.mjs';

/** How long until the daemon is asked again who this is, where it does not answer. */
const AGAIN_MS = 2_000;

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

// ---- who this is --------------------------------------------------------------------------------

/** @type {number|undefined} */
let again;

/** Ask who this is and what that allows, then follow the users. */
async function begin() {
    clearTimeout(again);
    show('loading');
    try {
        rights.take(await call('GET', 'v1/caller'));
    } catch (error) {
        const problem = asProblem(error);
        if (problem.refused) refused(problem);
        else {
            setLost(true, problem);
            again = setTimeout(begin, AGAIN_MS);
        }
        return;
    }
    setLost(false);
    if (rights.seesUsers) live.start();
    else signIn(text.signIn.metrics);
}

function refused(/** @type {import('./api.mjs').Problem} */ problem) {
    const words = token.get() === null ? '' : text.signIn.unknown;
    signIn(problem.status === 401 ? words : null);
    if (problem.status !== 401) explain(byId('token-problem'), problem);
}

/** Forget all, and ask for a token. */
function signIn(/** @type {string|null} */ problem) {
    live.stop();
    setLost(false);
    showAlarm(null);
    token.forget();
    rights.forget();
    selection.clear();
    panel?.close();
    closeNotice();
    for (const dialog of /** @type {NodeListOf<HTMLDialogElement>} */ (
        document.querySelectorAll('dialog[open]')
    ))
        dialog.close();
    show('sign-in');
    if (problem !== null) sayHere(byId('token-problem'), problem);
    byId('token').focus();
}

function setLost(
    /** @type {boolean} */ isLost,
    /** @type {import('./api.mjs').Problem|null} */ problem = null,
) {
    byId('lost').hidden = !isLost;
    if (problem?.hint) explain(byId('lost-text'), problem);
    else sayHere(byId('lost-text'), text.lost);
    document.body.classList.toggle('stale', isLost);
}

// ---- what is shown ------------------------------------------------------------------------------

const live = new LiveUsers({
    onChange: draw,
    onLive: () => setLost(false),
    onLost: (problem) => setLost(true, problem),
    onRefused: refused,
    onHost: (host, alarm) => {
        showHost(host);
        showAlarm(alarm);
    },
});
const { users } = live;
const selection = new Selection();

const table = new UsersTable(byId('users'), {
    connectAddress,
    onConnect: openConnect,
    onOpen: (user) => {
        location.hash = encodeURIComponent(user);
    },
    onSelect: (user, on, range) => {
        selection.set(user, on, { shown: table.shown, range });
        draw();
    },
    onSelectAll: (on) => {
        selection.setAll(table.shown, on);
        draw();
    },
    onSort: () => {
        byId('sorter').value = table.column;
        draw();
    },
    onClear: () => {
        table.query = byId('search').value = '';
        table.group = null;
        table.host = null;
        byId('search').focus();
        draw();
    },
});

const bar = new SelectionBar(byId('selection'), {
    onAction: (action) => withBulk((bulk) => bulk.open(action, selection.of(users))),
    onAll: () => {
        selection.setAll(table.shown, true);
        draw();
    },
    onClear: () => {
        selection.clear();
        draw();
        table.focus();
    },
});

/** @type {import('./types').PanelActions} */
const panelActions = {
    connectAddress,
    onConnect: openConnect,
    onAction: async (action, name, setBusy) => {
        const user = users.get(name);
        if (user === undefined) return null;
        return actIfSure(action, user, (now) => {
            setBusy(now);
            draw();
        });
    },
    onChanges: (user) => withChanges((changes) => changes.open(user)),
    onClose: closePanel,
};

function closePanel() {
    const user = panel?.user ?? null;
    // A caller of one user has nothing else.
    if (user === null || rights.user !== null) return;
    history.replaceState(null, '', location.pathname + location.search);
    openPanel();
    table.focus(user);
}

/** @type {import('./user-panel.mjs').UserPanel|null} */
let panel = null;
/** Whose panel was wanted before there was any: it is not asked for with each drawing. */
let wanted = '';
const withPanel = later(async () => {
    const { UserPanel } = await import('./user-panel.mjs');
    return (panel ??= new UserPanel(byId('panel'), panelActions));
});
const withBulk = later(async () => {
    const { BulkDialog } = await import('./bulk-dialog.mjs');
    return new BulkDialog(byId('bulk'), (done) => {
        selection.setAll(done, false);
        draw();
    });
});
const withChanges = later(async () => {
    const { ChangesDialog } = await import('./changes.mjs');
    return new ChangesDialog(byId('changes'));
});
const withHosts = later(async () => {
    const { HostsDialog } = await import('./hosts-dialog.mjs');
    return new HostsDialog(byId('hosts'));
});
const withCharts = later(async () => {
    const { ChartsDialog } = await import('./charts.mjs');
    return new ChartsDialog(byId('charts'));
});
const withTokens = later(async () => {
    const { TokensDialog } = await import('./tokens-dialog.mjs');
    return new TokensDialog(byId('tokens'));
});
const create = new CreateDialog(byId('new-user'), (user) => {
    location.hash = encodeURIComponent(user);
});

/** @type {number|null} */
let drawn = null;

/** Draw what has changed, once per frame at most. */
function draw() {
    drawn ??= requestAnimationFrame(() => {
        drawn = null;
        if (!live.complete) return;
        const isOfOne = rights.user !== null;
        if (isOfOne) say(byId('absent-title'), text.absent.title(rights.user ?? ''));
        show(users.size ? 'main' : isOfOne ? 'absent' : 'empty');
        if (!isOfOne) showList();
        openPanel();
        loadTheRest();
    });
}

/** Show one part of the page, with what the caller may use of what is around it. */
function show(/** @type {string} */ part) {
    const isOfOne = rights.user !== null;
    const isKnown = ['main', 'empty', 'absent'].includes(part);
    for (const id of ['loading', 'empty', 'absent', 'sign-in', 'main']) byId(id).hidden = id !== part;
    byId('host').hidden = !isKnown || isOfOne;
    // Its place is there before its figures are: the list must not jump under a click.
    byId('host').classList.toggle('awaited', !hasHost());
    document.documentElement.classList.toggle('with-host', !byId('host').hidden);
    byId('list').hidden = isOfOne;
    byId('empty-start').hidden = !rights.isAdmin;
    byId('new-user').hidden = !rights.isAdmin || part !== 'main';
    byId('charts-open').hidden = !isKnown || isOfOne;
    if (part !== 'main' || isOfOne) byId('hosts-open').hidden = true;
    for (const id of ['changes-open', 'tokens-open']) byId(id).hidden = !isKnown || !rights.isAdmin;
    byId('sign-out').hidden = !isKnown || token.get() === null;
    byId('rights').hidden = !isKnown || rights.isAdmin;
    sayHere(byId('rights'), isOfOne ? text.rights.user(rights.user ?? '') : text.rights.read);
    document.documentElement.classList.toggle('read-only', !rights.mayChange);
    document.body.classList.toggle('one-user', isOfOne);
}

function showList() {
    showGroups();
    showHosts();
    showDisk(users);
    const selected = selection.of(users).map(({ user }) => user);
    table.show(users, selection);
    bar.show({ selected, shown: table.shown });
    const all = table.query === '' && table.group === null && table.host === null;
    say(byId('announcer'), all ? '' : text.table.count(figure(table.shown.length), figure(users.size)));
}

function showGroups() {
    const count = Object.fromEntries(Object.keys(GROUPS).map((group) => [group, 0]));
    for (const user of users.values()) count[conditionOf(user).group] += 1;
    for (const button of byId('groups').children) {
        const group = button.value || null;
        say(button.lastElementChild, figure(group === null ? users.size : count[group]));
        button.setAttribute('aria-pressed', String(group === table.group));
    }
}

/** The hosts that have users, to choose from; a host on its own has no name. */
function showHosts() {
    const names = new Set([...users.values()].flatMap(({ host }) => host ?? []));
    // One that is chosen stays, though its last user has gone.
    if (table.host !== null) names.add(table.host);
    const hosts = [...names].sort();
    const isFleet = hosts.length > 0;
    byId('list').classList.toggle('with-hosts', isFleet);
    byId('host-filter').hidden = !isFleet;
    byId('hosts-open').hidden = !isFleet;
    for (const option of byId('sorter').options) if (option.value === 'host') option.hidden = !isFleet;
    const choice = byId('of-host');
    const key = hosts.join(' ');
    if (choice.dataset.key !== key) {
        choice.dataset.key = key;
        const options = hosts.map((name) => el('option', { value: name }, text.hosts.of(name)));
        choice.replaceChildren(el('option', { value: '' }, text.hosts.all), ...options);
    }
    choice.value = table.host ?? '';
}

/** What the address names after its #, as it is where that is no encoded name. */
function nameInAddress() {
    const written = location.hash.slice(1);
    try {
        return decodeURIComponent(written);
    } catch {
        return written;
    }
}

/** Show the user that the address names, or the only one that there is. */
function openPanel() {
    const name = rights.user ?? nameInAddress();
    const user = users.get(name);
    if (panel === null) {
        if (user !== undefined && name !== wanted) withPanel(draw);
        wanted = name;
        return;
    }
    if (user === undefined) panel.close();
    else if (panel.user === name) panel.show(user);
    else panel.open(user);
    table.mark(panel.user);
    document.body.classList.toggle('with-panel', panel.user !== null);
}

/** Give the user of this token a server. */
async function startOwn() {
    const pressed = byId('absent-start');
    if (isBusy(pressed)) return;
    busy(pressed, text.create.busy);
    try {
        await call('PUT', userPath(rights.user ?? ''), { query: { wait: 'none' } });
        live.start();
    } catch (error) {
        notifyOf(asProblem(error));
    } finally {
        idle(pressed, text.create.action);
    }
}

function exportList() {
    const shown = table.shown.flatMap((name) => users.get(name) ?? []);
    const day = new Date().toISOString().slice(0, 10);
    save(`waportd-${day}.csv`, 'text/csv', csvOf(shown));
}

// ---- beginning ----------------------------------------------------------------------------------

byId('groups').append(
    ...[null, .../** @type {(keyof typeof GROUPS)[]} */ (Object.keys(GROUPS))].map((group) =>
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
byId('of-host').addEventListener('change', (/** @type {Event & {target: HTMLSelectElement}} */ event) => {
    table.host = event.target.value || null;
    draw();
});
byId('search').addEventListener('input', (/** @type {Event & {target: HTMLInputElement}} */ event) => {
    table.query = event.target.value.trim();
    draw();
});
byId('keys-list').append(
    ...text.keys.list.map(([keys, what]) =>
        el('div', {}, el('dt', {}, ...keys.split(' ').map((key) => el('kbd', {}, key))), el('dd', {}, what)),
    ),
);
// The head of the table stays below the tools, and rows above the bar, however many lines these need.
for (const id of ['tools', 'selection'])
    new window.ResizeObserver(() =>
        byId('list').style.setProperty(`--${id}`, `${byId(id).offsetHeight}px`),
    ).observe(byId(id));
byId('bulk').addEventListener('close', () => {
    // The bar with the button that opened it may be gone.
    const active = document.activeElement;
    if (active === document.body || byId('bulk').contains(active)) table.focus();
});

const PRESSED = /** @type {Record<string, () => void>} */ ({
    'keys-open': () => byId('keys').showModal(),
    'lost-retry': () => (rights.seesUsers ? live.hurry() : begin()),
    'notice-close': closeNotice,
    'new-user': () => create.open(),
    'first-user': () => create.open(),
    'absent-start': startOwn,
    'charts-open': () => withCharts((charts) => charts.open()),
    'hosts-open': () => withHosts((hosts) => hosts.open()),
    'changes-open': () => withChanges((changes) => changes.open()),
    'tokens-open': () => withTokens((tokens) => tokens.open()),
    export: exportList,
    'sign-out': () => {
        token.forget();
        location.reload();
    },
});
for (const [id, onClick] of Object.entries(PRESSED)) byId(id).addEventListener('click', onClick);
byId('sign-in-form').addEventListener('submit', (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const typed = byId('token').value.trim();
    if (typed === '') return;
    token.set(typed);
    byId('token').value = '';
    begin();
});
addEventListener('hashchange', draw);
document.addEventListener('keydown', (event) => {
    const target = /** @type {HTMLInputElement} */ (event.target);
    const keys = /** @type {Record<string, () => void>} */ ({
        '/': () => byId('search').focus(),
        '?': () => byId('keys').showModal(),
    });
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]')) return;
    // In a search field it empties that first.
    if (event.key === 'Escape' && !(target.matches('[type=search]') && target.value !== '')) closePanel();
    if (!(event.key in keys) || target.matches('input:not([type=checkbox]), select')) return;
    event.preventDefault();
    keys[event.key]();
});
begin();
