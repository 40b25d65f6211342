/** What the site told this document when it served it, and how the page speaks to the site. */

/** `{traits, names, modules, breaks, delays}`; see ../traits.js and ../site.js. */
export const config = JSON.parse(document.getElementById('standin').textContent);
/** How this page behaves; the site changes some of it while the page is open. */
export const { traits } = config;
/** New with each document: what a test tells documents apart by. */
export const pageId = crypto.randomUUID();

export const pause = (milliseconds) =>
    new Promise((resolve) => {
        setTimeout(resolve, milliseconds);
    });

export async function uplink(type, fields) {
    const body = JSON.stringify({ page: pageId, type, ...fields });
    const answer = await fetch('/uplink', { method: 'POST', body });
    if (!answer.ok) throw new Error((await answer.json()).error);
    return answer.json();
}

/** Tells the site what it need not answer; a site that cannot be reached is not told. */
export const tell = (type, fields) => uplink(type, fields).catch(() => {});
