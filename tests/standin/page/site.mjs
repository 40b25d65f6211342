/** What the site said to this document when it served it, and how the page speaks to the site. */

/** `{traits, names, modules, breaks, delays, weight}`; see ../traits.js, ../weight.js and ../site.js. */
export const config = JSON.parse(document.getElementById('standin').textContent);
/** How this page behaves; the site changes some of it while the page is open. */
export const { traits } = config;
/** New with each document: what a test distinguishes documents by. */
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

/** Reports to the site what it need not answer; a site that cannot be reached hears nothing. */
export const tell = (type, fields) => uplink(type, fields).catch(() => {});
