/** The options of one user: what they are now, and the form that changes them (PATCH /v1/users/{user}). */

import { call, userPath } from './api.mjs';
import { AT_REST } from './contract.mjs';
import { el, say } from './dom.mjs';
import { openForm } from './form-dialog.mjs';
import { bytes, figure } from './format.mjs';
import { KEPT, SettingField, checks, line } from './setting-field.mjs';
import { dashboardText } from './texts.mjs';
import { known } from './user-facts.mjs';

const { settings: text } = dashboardText;

const MEBI = 1024 ** 2;
const HIDDEN = '***';

/** Options that apply without a restart of the server: the others are read when it starts. */
const WITHOUT_RESTART = ['autostart', 'memory_max', 'engine'];

/** Bytes as the API reads and people write them: 512M. */
const sizeText = (/** @type {number|null} */ size) =>
    size === null || size === 0 ? '' : size % MEBI === 0 ? `${size / MEBI}M` : String(size);

/** A number where it is one: the API says what is wrong with anything else. */
const numberOr = (/** @type {string} */ written) => (/^\d{1,15}$/.test(written) ? Number(written) : written);

const listed = (/** @type {Record<string, string>} */ words, /** @type {string[]} */ chosen) =>
    chosen.length === 0 ? text.nothing : chosen.map((one) => words[one] ?? one).join(', ');

/**
 * What a user has of its own.
 *
 * @returns {import('./user-facts.mjs').Fact[]}
 */
export function settingsOf(/** @type {import('./types').User} */ user) {
    const { options: words } = text;
    const limited = (/** @type {number} */ count, /** @type {string} */ shown, /** @type {string} */ none) =>
        count === 0 ? none : shown;
    /** @type {(import('./user-facts.mjs').Fact|false)[]} */
    const all = [
        [dashboardText.facts.autostart, user.autostart ? text.on : text.off],
        user.memory_max !== null && [
            words.memory_max.label,
            limited(user.memory_max, bytes(user.memory_max), words.memory_max.values.none),
        ],
        user.own_engine && [words.engine.label, user.engine],
        user.own_proxy && [words.proxy.label, user.proxy],
        user.own_webhook && [words.webhook_url.label, text.isSet],
        user.own_webhook_secret && [words.webhook_secret.label, text.isSet],
        user.webhook_events !== null && [
            words.webhook_events.label,
            listed(text.events, user.webhook_events),
        ],
        user.ignore !== null && [words.ignore.label, listed(text.ignored, user.ignore)],
        user.default_country !== null && [
            words.default_country.label,
            user.default_country || words.default_country.values.none,
        ],
        user.send_rate !== null && [
            words.send_rate.label,
            limited(user.send_rate, figure(user.send_rate), words.send_rate.values.none),
        ],
    ];
    return known(all);
}

/** The fields of the form. @returns {SettingField[]} */
function fieldsOf(/** @type {import('./types').User} */ user, /** @type {() => void} */ onChange) {
    const written = (/** @type {string|number|null} */ value) => (value === null ? '' : String(value));
    const { proxy } = user;
    const ownProxy = proxy.includes(HIDDEN) ? KEPT : proxy;
    /** @type {Omit<ConstructorParameters<typeof SettingField>[0], 'onChange'>[]} */
    const options = [
        {
            name: 'webhook_url',
            value: user.own_webhook ? KEPT : null,
            fixed: { none: '' },
            edit: (id, attributes) => line(id, '', { ...attributes, inputmode: 'url' }, String),
        },
        {
            name: 'webhook_secret',
            value: user.own_webhook_secret ? KEPT : null,
            fixed: { none: '' },
            edit: (id, attributes) =>
                line(id, '', { ...attributes, type: 'password', autocomplete: 'new-password' }, String),
        },
        {
            name: 'webhook_events',
            value: user.webhook_events,
            edit: () => checks(text.events, user.webhook_events ?? [], text.options.webhook_events.label),
        },
        {
            name: 'ignore',
            value: user.ignore,
            edit: () => checks(text.ignored, user.ignore ?? [], text.options.ignore.label),
        },
        {
            name: 'default_country',
            value: user.default_country,
            fixed: { none: '' },
            edit: (id, attributes) =>
                line(id, user.default_country ?? '', { ...attributes, inputmode: 'numeric' }, String),
        },
        {
            name: 'send_rate',
            value: user.send_rate,
            fixed: { none: 0 },
            edit: (id, attributes) =>
                line(id, written(user.send_rate || null), { ...attributes, inputmode: 'numeric' }, numberOr),
        },
        {
            name: 'memory_max',
            value: user.memory_max,
            fixed: { none: 0 },
            edit: (id, attributes) => line(id, sizeText(user.memory_max), attributes, numberOr),
        },
        {
            name: 'engine',
            value: user.own_engine ? user.engine : null,
            fixed: { bundled: 'bundled' },
            edit: (id, attributes) =>
                line(id, user.own_engine && user.engine !== 'bundled' ? user.engine : '', attributes, String),
        },
        {
            name: 'proxy',
            value: user.own_proxy ? ownProxy : null,
            fixed: { auto: 'auto', none: 'none' },
            edit: (id, attributes) =>
                line(id, user.own_proxy && ownProxy !== KEPT ? proxy : '', attributes, String),
        },
    ];
    return options.map((option) => new SettingField({ ...option, onChange }));
}

/**
 * @param {import('./types').User} user
 * @param {(words: string) => void} onDone
 */
export function openSettings(user, onDone) {
    const changedNow = () => {
        const changed = fields.filter((field) => field.changed !== undefined);
        /** @type {Record<string, unknown>} */
        const body = Object.fromEntries(changed.map((field) => [field.name, field.changed]));
        return autostart.checked === user.autostart ? body : { ...body, autostart: autostart.checked };
    };
    const showEffect = () => {
        const names = Object.keys(changedNow());
        const runs = !AT_REST.includes(user.process.state);
        const restarts = runs && names.some((name) => !WITHOUT_RESTART.includes(name));
        const words = [restarts && text.restarts, names.includes('engine') && text.nextStart];
        say(effect, words.filter(Boolean).join(' '));
    };
    const autostart = el('input', { type: 'checkbox', checked: user.autostart, oninput: showEffect });
    const effect = el('p.effect', { role: 'status' });
    const fields = fieldsOf(user, showEffect);
    return openForm({
        title: text.of(user.user),
        parts: [
            el('div.checks', {}, el('label', {}, autostart, text.autostart)),
            ...fields.map(({ element }) => element),
            effect,
        ],
        action: text.save,
        working: text.saving,
        send: async (complain) => {
            const body = changedNow();
            for (const field of fields) field.complain(null);
            if (Object.keys(body).length === 0) {
                complain(text.unchanged);
                return false;
            }
            await call('PATCH', userPath(user.user), { body });
            onDone(text.saved);
            return true;
        },
        place: (problem) => {
            // The API names the member first: "memory_max: must be …".
            const name = problem.code === 'unknown_engine' ? 'engine' : problem.message.split(':')[0];
            const field = fields.find((one) => one.name === name);
            field?.complain(problem);
            return field !== undefined;
        },
    });
}
