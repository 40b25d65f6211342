/** The question to which host of the fleet a user is to go. */

import { call, userPath } from './api.mjs';
import { el } from './dom.mjs';
import { openForm } from './form-dialog.mjs';
import { figure } from './format.mjs';
import { dashboardText } from './texts.mjs';

const { hostMove: text, hosts: words } = dashboardText;

/**
 * @param {import('./types').User} user
 * @param {(words: string) => void} onDone
 */
export function openHostMove({ user, host }, onDone) {
    const choice = el('select.field', { id: 'move-host', 'aria-describedby': 'move-about form-problem' });
    const none = el('p.quiet', { role: 'status' }, words.reading);
    const dialog = openForm({
        title: text.title(user),
        parts: [
            el('p', { id: 'move-about' }, text.about(host ?? '')),
            el('label', { for: 'move-host' }, text.label),
            choice,
            none,
        ],
        action: text.action,
        working: text.working,
        send: async (complain) => {
            if (choice.value === '') {
                complain(text.none);
                return false;
            }
            await call('POST', userPath(user, 'move'), { body: { host: choice.value } });
            onDone(text.done(choice.value));
            return true;
        },
    });
    fill();
    return dialog;

    async function fill() {
        /** @type {{hosts: import('./types').FleetHost[]}} */
        const { hosts } = await call('GET', 'v1/hosts').catch(() => ({ hosts: [] }));
        const open = hosts.filter((one) => one.alive && one.state === 'active' && one.name !== host);
        choice.replaceChildren(
            ...open.map(({ name, users, capacity }) =>
                el('option', { value: name }, `${name} (${words.users(figure(users), figure(capacity))})`),
            ),
        );
        none.textContent = open.length === 0 ? text.none : '';
    }
}
