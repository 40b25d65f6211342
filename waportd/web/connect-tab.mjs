/** Opens the connect page of a user in a tab of its own. */

import { address, asProblem, call, token, userPath } from './api.mjs';
import { el } from './dom.mjs';
import { closeNotice, notify, notifyOf } from './saying.mjs';
import { dashboardText as text } from './texts.mjs';

const LINK_S = 600;

/** In the language of this page, where its address names one. */
const chosen = new URLSearchParams(location.search).get('lang');

export const connectAddress = (/** @type {string} */ user) =>
    address('connect', { user, ...(chosen === null ? {} : { lang: chosen }) });

/** A link carries no token, so a page with a token opens the connect page by a signed link. */
export async function openConnect(/** @type {Event} */ event, /** @type {string} */ user) {
    if (token.get() === null) return;
    event.preventDefault();
    // Now, while the click still lets the page open a tab; null where the browser lets it open none.
    const page = open('', '_blank');
    if (page !== null) letGo(page);
    try {
        const body = { ttl: LINK_S };
        const { path } = await call('POST', userPath(user, 'connect-link'), { body });
        const link = new URL(path.replace(/^\//, ''), document.baseURI);
        if (chosen !== null) link.searchParams.set('lang', chosen);
        if (page !== null) page.location.href = String(link);
        else notify(`${text.blocked} `, linkTo(String(link), user));
    } catch (error) {
        page?.close();
        notifyOf(asProblem(error));
    }
}

/** Leave a tab alone: it has a copy of the token, and leads to a web app, which could send this page away. */
function letGo(/** @type {Window} */ tab) {
    token.forget(tab.sessionStorage);
    tab.opener = null;
}

/** A link to a user's page, which expires: the notice closes with its click. */
const linkTo = (/** @type {string} */ href, /** @type {string} */ user) =>
    el('a', { href, target: '_blank', rel: 'noopener', onclick: closeNotice }, text.table.connectOf(user));
