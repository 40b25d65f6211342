/** The question before a user gets another port, and which one. */

import { call, userPath } from './api.mjs';
import { el } from './dom.mjs';
import { openForm } from './form-dialog.mjs';
import { dashboardText } from './texts.mjs';

const { move: text } = dashboardText;

const PORTS = [1, 65_535];

/**
 * @param {import('./types').User} user
 * @param {(words: string) => void} onDone
 */
export function openMove({ user, port }, onDone) {
    const field = el('input.field', {
        id: 'move-port',
        inputmode: 'numeric',
        autocomplete: 'off',
        maxlength: '5',
        'aria-describedby': 'move-about move-help form-problem',
    });
    return openForm({
        title: text.title(user),
        parts: [
            el('p', { id: 'move-about' }, text.about(port)),
            el('label', { for: 'move-port' }, text.label),
            field,
            el('p.quiet', { id: 'move-help' }, text.help),
        ],
        action: text.action,
        working: text.working,
        send: async (complain) => {
            const typed = field.value.trim();
            const isPort = /^\d+$/.test(typed) && Number(typed) >= PORTS[0] && Number(typed) <= PORTS[1];
            field.setAttribute('aria-invalid', String(typed !== '' && !isPort));
            if (typed !== '' && !isPort) {
                complain(text.invalid);
                field.focus();
                return false;
            }
            const body = { port: typed === '' ? null : Number(typed) };
            const moved = await call('POST', userPath(user, 'move'), { body });
            onDone(text.done(moved.port));
            return true;
        },
    });
}
